// Package descriptor reads semantic descriptors, the text in which the models write segmentation masks, and the grid of
// labels that the services return for it.
//
// A descriptor is what stands between <seg> and </seg>: one label per cell of a coarse grid, with run lengths.
//
//	others *16
//	 others *5| white horse *4| others *7
//	 others *16
//
// Decoding is lenient: it takes any text, never fails on it, reads row by row, so that a bad row does not move the others,
// and reports every repair. [DecodeStrict] takes only what [Encode] writes. The format is described in
// docs/descriptor-format.md; tests/golden/descriptors holds the cases that this package and the Python code share.
package descriptor

import (
	"errors"
	"fmt"
	"strings"
)

// Codec is a way of writing a grid.
type Codec string

const (
	// RRLE has run lengths within each row: the trained form.
	RRLE Codec = "r-rle"
	// IRLE has run lengths over the whole image in row-major order, on one line.
	IRLE Codec = "i-rle"
	// Full has one label per cell and no counts, rows as in RRLE.
	Full Codec = "full"
)

// RepairKind is what had to be repaired in a text. All kinds but Separator may have changed the grid.
type RepairKind string

const (
	// RowShort: the row has too few cells; the rest became "others", or its only count was completed.
	RowShort RepairKind = "row_short"
	// RowLong: the row has too many cells; they were cut.
	RowLong RepairKind = "row_long"
	// RowsMissing: the text ends before the last row; the rest became "others".
	RowsMissing RepairKind = "rows_missing"
	// RowsExtra: there are more rows than the grid has; they were dropped.
	RowsExtra RepairKind = "rows_extra"
	// CountInvalid: a run length is missing, zero, negative, too large, in other digits or not a number.
	CountInvalid RepairKind = "count_invalid"
	// LabelMissing: a run has no label; its cells became "others".
	LabelMissing RepairKind = "label_missing"
	// LabelUnknown: a label is not allowed here; its cells became "others".
	LabelUnknown RepairKind = "label_unknown"
	// BlockUnclosed: </seg> is missing.
	BlockUnclosed RepairKind = "block_unclosed"
	// BlockExtra: there is more than one block; the first was used.
	BlockExtra RepairKind = "block_extra"
	// BlockMissing: there is no block; everything became "others".
	BlockMissing RepairKind = "block_missing"
	// Separator: separators, white space, letter case or the splitting of runs differ from the trained form; the grid is
	// what was written.
	Separator RepairKind = "separator"
)

// Repair is one difference between a text and a well-formed descriptor. At most one of each kind is reported per row.
type Repair struct {
	Kind   RepairKind
	Row    int    // of the grid, 0-based; the number of rows where it is behind the last one
	Column int    // of the grid, 0-based; the number of columns where it is behind the last one
	Detail string // one line for a person
}

// Decoding is a decoded descriptor.
type Decoding struct {
	Grid          Grid
	Repairs       []Repair // empty exactly when the text is well-formed
	UnknownLabels []string // labels that were not allowed, each once, in order of appearance
	Truncated     bool     // the text ended before the last row was complete
}

// MalformedError says where a text is no well-formed descriptor.
type MalformedError struct {
	Row, Column int // of the grid, 0-based
	Detail      string
}

// Error returns one line for a person.
func (e *MalformedError) Error() string {
	return fmt.Sprintf("row %d, column %d: %s", e.Row, e.Column, e.Detail)
}

// Format says how a text is to be read.
type Format struct {
	Rows, Columns int      // of the grid: a property of the model, never guessed from the text
	Labels        []string // the allowed labels besides "others"; nil: open vocabulary
	Codec         Codec    // "": RRLE
	// Unfinished says that the model is still writing: what is missing at the end is no repair then.
	Unfinished bool
}

// Decode reads a descriptor, the text between <seg> and </seg>, leniently. It fails only when the format itself is
// impossible: a shape without cells or with too many, an unknown codec, or a label that cannot be written ([LabelError]).
func Decode(text string, format Format) (Decoding, error) {
	begin := len(text) - len(trimLeft(text))
	if strings.HasPrefix(text[begin:], segOpen) {
		begin += len(segOpen)
	} else {
		begin = 0
	}
	end := nextTag(text, begin)
	var repairs []Repair
	if begin > 0 || end < len(text) {
		repairs = append(repairs, Repair{Separator, 0, 0, "seg tags inside the text"})
	}
	return decode(text[begin:end], format, repairs)
}

// DecodeAnswer reads the first <seg> block of a model's whole answer, as [Decode] does. A missing block, a missing </seg>
// and further blocks are repairs.
func DecodeAnswer(answer string, format Format) (Decoding, error) {
	opening := strings.Index(answer, segOpen)
	if opening < 0 {
		var repairs []Repair
		if !format.Unfinished {
			repairs = append(repairs, Repair{BlockMissing, 0, 0, "the answer has no <seg> block"})
		}
		format.Unfinished = true
		return decode("", format, repairs)
	}
	begin := opening + len(segOpen)
	end := nextTag(answer, begin)
	decoding, err := decode(answer[begin:end], format, nil)
	if err != nil {
		return Decoding{}, err
	}
	if !format.Unfinished && !strings.HasPrefix(answer[end:], segClose) {
		decoding.Repairs = append(decoding.Repairs, Repair{BlockUnclosed, format.Rows, 0, "</seg> is missing"})
	}
	if strings.Contains(answer[end:], segOpen) {
		decoding.Repairs = append(decoding.Repairs, Repair{BlockExtra, format.Rows, 0, "more than one <seg> block"})
	}
	return decoding, nil
}

// DecodeStrict reads a descriptor that must be exactly what [Encode] writes. It fails with a [MalformedError] that names
// the first place that lenient decoding would repair, and as [Decode] does.
func DecodeStrict(text string, format Format) (Grid, error) {
	format.Unfinished = false
	decoding, err := Decode(text, format)
	if err != nil {
		return Grid{}, err
	}
	if len(decoding.Repairs) > 0 {
		first := decoding.Repairs[0]
		return Grid{}, &MalformedError{first.Row, first.Column, first.Detail}
	}
	return decoding.Grid, nil
}

// Encode writes a grid as the text between <seg> and </seg>, ending in a newline.
func Encode(grid Grid, codec Codec) string {
	width := grid.Columns
	if codec == IRLE {
		width = len(grid.Cells)
	}
	var text strings.Builder
	for begin := 0; begin < len(grid.Cells); begin += width {
		if begin > 0 {
			text.WriteString("\n ")
		}
		encodeLine(&text, grid.Cells[begin:begin+width], grid.Labels, codec)
	}
	text.WriteString("\n")
	return text.String()
}

func encodeLine(text *strings.Builder, cells []int, labels []string, codec Codec) {
	for at := 0; at < len(cells); {
		run := 1
		for codec != Full && at+run < len(cells) && cells[at+run] == cells[at] {
			run++
		}
		if at > 0 {
			text.WriteString("| ")
		}
		text.WriteString(labels[cells[at]])
		if codec != Full {
			fmt.Fprintf(text, " *%d", run)
		}
		at += run
	}
}

func nextTag(text string, begin int) int {
	end := len(text)
	for _, tag := range []string{segOpen, segClose} {
		if at := strings.Index(text[begin:], tag); at >= 0 {
			end = min(end, begin+at)
		}
	}
	return end
}

func decode(text string, format Format, repairs []Repair) (Decoding, error) {
	rows, columns, codec := format.Rows, format.Columns, format.Codec
	if codec == "" {
		codec = RRLE
	}
	if codec != RRLE && codec != IRLE && codec != Full {
		return Decoding{}, fmt.Errorf("descriptor: there is no codec %q", codec)
	}
	if err := checkShape(rows, columns); err != nil {
		return Decoding{}, err
	}
	words, err := newVocabulary(format.Labels)
	if err != nil {
		return Decoding{}, err
	}
	first := skipBlankLines(text)
	if first > 0 && len(text) > first {
		repairs = append(repairs, Repair{Separator, 0, 0, "a blank line before the first row"})
	}
	imageWise := codec == IRLE
	width, wanted := columns, rows
	if imageWise {
		width, wanted = rows*columns, 1
	}
	var lines []line
	at, cut := first, false
	for len(lines) < wanted && !cut {
		length := strings.IndexByte(text[at:], '\n')
		if imageWise && length >= 0 { // one line: only a newline at the very end ends it
			length = strings.LastIndexByte(text[at:], '\n')
			if at+length != len(text)-1 {
				length = -1
			}
		}
		cut = length < 0
		if cut {
			length = len(text) - at
		}
		written := text[at : at+length]
		if cut && isBlank(written) {
			break
		}
		if strings.Contains(written, "\n") { // only in I-RLE, which is one line
			repairs = append(repairs, Repair{Separator, 0, 0, "a newline inside the text"})
			written = strings.ReplaceAll(written, "\n", "|")
		}
		where := place{row: len(lines), width: width, cut: cut, final: !format.Unfinished}
		if imageWise {
			where.columns = columns
		}
		lines = append(lines, readLine(written, where, codec, words))
		at += length
		if !cut {
			at++
		}
	}
	for _, read := range lines {
		repairs = append(repairs, read.repairs...)
	}
	there := fmt.Sprintf("%d of %d lines are there", len(lines), wanted)
	if !format.Unfinished && len(lines) < wanted {
		repairs = append(repairs, Repair{RowsMissing, len(lines), 0, there})
	} else if !format.Unfinished && cut {
		repairs = append(repairs, Repair{Separator, rows - 1, columns, "no newline at the end"})
	}
	if !isBlank(text[at:]) && len(lines) == wanted {
		repairs = append(repairs, Repair{RowsExtra, rows, 0, fmt.Sprintf("more than %d lines", wanted)})
	} else if at < len(text) && len(lines) == wanted {
		repairs = append(repairs, Repair{Separator, rows, 0, "white space behind the last row"})
	}
	cells := make([]int, 0, rows*columns)
	for _, read := range lines {
		cells = append(cells, read.cells...)
	}
	cells = append(cells, make([]int, rows*columns-len(cells))...)
	return Decoding{
		Grid:          Grid{Rows: rows, Columns: columns, Labels: words.labels, Cells: cells},
		Repairs:       repairs,
		UnknownLabels: words.unknown,
		Truncated:     len(lines) < wanted || (cut && lines[len(lines)-1].filled < width),
	}, nil
}

// skipBlankLines returns where the line with the first visible character begins.
func skipBlankLines(text string) int {
	leading := text[:len(text)-len(trimLeft(text))]
	return strings.LastIndexByte(leading, '\n') + 1
}

var errShape = errors.New("descriptor: impossible grid")

func checkShape(rows, columns int) error {
	if rows < 1 || columns < 1 || rows > MaxCells || columns > MaxCells || rows*columns > MaxCells {
		return fmt.Errorf("%w: %d x %d is not between 1 x 1 and %d cells", errShape, rows, columns, MaxCells)
	}
	return nil
}
