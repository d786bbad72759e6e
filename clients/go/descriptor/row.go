package descriptor

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// vocabulary is the label table of one decoding: fixed when labels are given, else filled by what the text names.
type vocabulary struct {
	labels  []string
	index   map[string]int
	open    bool
	unknown []string
	refused map[string]bool // the unknown ones
}

func newVocabulary(labels []string) (*vocabulary, error) {
	v := &vocabulary{labels: []string{Others}, index: map[string]int{Others: 0}, open: labels == nil, refused: map[string]bool{}}
	if len(labels) > 0 && labels[0] == Others {
		labels = labels[1:]
	}
	for _, label := range labels {
		canonical, err := CheckLabel(label)
		if err != nil {
			return nil, err
		}
		if !v.knows(canonical) {
			v.add(canonical)
		}
	}
	return v, nil
}

func (v *vocabulary) knows(name string) bool {
	_, known := v.index[name]
	return known
}

func (v *vocabulary) add(name string) int {
	v.index[name] = len(v.labels)
	v.labels = append(v.labels, name)
	return v.index[name]
}

// find returns a normalized name's index, adding it in open vocabulary; false: it is not allowed.
func (v *vocabulary) find(name string) (int, bool) {
	if found, known := v.index[name]; known {
		return found, true
	}
	if v.open && characters(name) <= MaxLabelLength && labelProblem(name) == "" {
		return v.add(name), true
	}
	if name = firstOf(name, MaxLabelLength); !v.refused[name] {
		v.refused[name] = true
		v.unknown = append(v.unknown, name)
	}
	return 0, false
}

// piece is one run before its length is settled.
type piece struct {
	name     string
	count    int // -1: it could not be read
	fallback int
	written  bool // whether the text has a count there
	faults   []fault
}

type fault struct {
	kind   RepairKind
	detail string
}

// line is what one line of text says: cells has as many entries as the line must describe.
type line struct {
	cells   []int
	repairs []Repair
	filled  int
}

// readCount returns the count (-1: unreadable), the value to fall back to, and what is wrong.
func readCount(text string, width int) (count, fallback int, problem string) {
	if text == "" {
		return -1, 1, "the run length is missing"
	}
	significant := strings.TrimLeft(text, "0")
	if !isDecimal(text) || significant == "" {
		return -1, 0, quote(text) + " is not a run length"
	}
	if characters(significant) > 9 || decimalValue(significant) > width {
		return -1, width, fmt.Sprintf("run length %s does not fit in %d patches", quote(text), width)
	}
	value := decimalValue(significant)
	if value == 0 { // zero in other digits
		return -1, 0, quote(text) + " is not a run length"
	}
	if strconv.Itoa(value) != text {
		return value, value, fmt.Sprintf("run length %s was read as %d", quote(text), value)
	}
	return value, value, ""
}

func isDecimal(text string) bool {
	return text != "" && strings.IndexFunc(text, func(char rune) bool { return !unicode.Is(unicode.Nd, char) }) < 0
}

// decimalValue reads up to nine decimal digits of any script. Unicode lists the digits of a script from 0 to 9.
func decimalValue(text string) int {
	value := 0
	for _, char := range text {
		value = 10*value + digitValue(char)
	}
	return value
}

func digitValue(char rune) int {
	for _, span := range unicode.Nd.R16 {
		if rune(span.Lo) <= char && char <= rune(span.Hi) {
			return int(char-rune(span.Lo)) % 10
		}
	}
	for _, span := range unicode.Nd.R32 {
		if rune(span.Lo) <= char && char <= rune(span.Hi) {
			return int(char-rune(span.Lo)) % 10
		}
	}
	return 0
}

// nameOf normalizes a label as written; one that is far too long comes back too long, unchanged but cut.
func nameOf(text string) string {
	if characters(text) <= maxRawLength {
		return normalize(text)
	}
	return firstOf(text, MaxLabelLength+1)
}

func readPiece(text, lead string, width int, full bool, knows func(string) bool) piece {
	head, tail, star := text, "", false
	if at := strings.LastIndexByte(text, '*'); at >= 0 && !full {
		if isDecimal(trim(text[at+1:])) || !knows(nameOf(trim(text))) {
			head, tail, star = text[:at], text[at+1:], true
		}
	}
	label, countText := trim(head), trim(tail)
	read := piece{name: nameOf(label), count: 1, fallback: 1, written: countText != ""}
	if !full {
		var problem string
		if read.count, read.fallback, problem = readCount(countText, width); problem != "" {
			read.faults = append(read.faults, fault{CountInvalid, problem})
		}
	}
	switch {
	case read.name == "":
		read.faults = append(read.faults, fault{LabelMissing, "a run has no label"})
		read.name = Others
	case (star && text != lead+label+" *"+countText) || (!star && text != lead+label):
		read.faults = append(read.faults, fault{Separator, "white space in " + quote(text)})
	case label != read.name:
		read.faults = append(read.faults, fault{Separator, "spelling of " + quote(label)})
	}
	return read
}

// settle gives every run a length; whole says that these are all runs of a line that was finished.
//
// A single unreadable length in a finished row is what the others leave over, and nothing when they leave nothing. A row
// that is one run whose digits begin the width ("*1" for "*16") lost its last digits. All else falls back.
func settle(pieces []piece, width int, whole bool) {
	if whole {
		unread, left := 0, width
		for _, read := range pieces {
			if read.count < 0 {
				unread++
			} else {
				left -= read.count
			}
		}
		if unread == 1 || left <= 0 {
			for i := range pieces {
				if pieces[i].count < 0 {
					pieces[i].count = max(left, 0)
				}
			}
		}
		if len(pieces) == 1 && pieces[0].written {
			count := pieces[0].count
			if count > 0 && count < width && strings.HasPrefix(strconv.Itoa(width), strconv.Itoa(count)) {
				detail := fmt.Sprintf("run length %d was read as a truncated %d", count, width)
				pieces[0].faults = append(pieces[0].faults, fault{RowShort, detail})
				pieces[0].count = width
			}
		}
	}
	for i := range pieces {
		if pieces[i].count < 0 {
			pieces[i].count = pieces[i].fallback
		}
	}
}

type reported struct {
	kind RepairKind
	row  int
}

// place says where in a grid a line is.
type place struct {
	row     int  // grid row of the line's first cell
	width   int  // cells that the line must describe
	columns int  // grid columns when the line holds several rows (I-RLE), else 0
	cut     bool // the text ends with this line, without a newline
	final   bool // nothing will follow: what is missing is reported
}

func (p place) cell(column int) (int, int) {
	if p.columns == 0 {
		return p.row, column
	}
	return column / p.columns, column % p.columns
}

// readLine reads a row of the grid, or the whole grid in I-RLE. Cells that the line does not describe are "others".
func readLine(text string, at place, codec Codec, words *vocabulary) line {
	full := codec == Full
	segments := strings.SplitN(text, "|", at.width+1)
	more := len(segments) > at.width
	var pieces []piece
	blanks := false
	for index, segment := range segments[:min(len(segments), at.width)] {
		lead := ""
		if index > 0 || at.row > 0 {
			lead = " "
		}
		if isBlank(segment) {
			blanks = true
		} else {
			pieces = append(pieces, readPiece(segment, lead, at.width, full, words.knows))
		}
	}
	// A run without its length at the very end was being written: its label may be half a word.
	if last := len(pieces) - 1; at.cut && !more && last >= 0 {
		if (full && len(pieces) < at.width) || (!full && !pieces[last].written) {
			pieces = pieces[:last]
		}
	}
	settle(pieces, at.width, !at.cut && !more)

	read := line{cells: make([]int, 0, at.width)}
	seen := map[reported]bool{} // at most one repair of each kind per row
	report := func(kind RepairKind, column int, detail string) {
		row, cell := at.cell(column)
		if once := (reported{kind, row}); !seen[once] {
			seen[once] = true
			read.repairs = append(read.repairs, Repair{kind, row, cell, detail})
		}
	}
	previous := ""
	for _, run := range pieces {
		column := len(read.cells)
		for _, wrong := range run.faults {
			report(wrong.kind, column, wrong.detail)
		}
		length := min(run.count, at.width-column)
		if length < run.count {
			report(RowLong, at.width, quote(run.name)+" goes on behind the last patch")
		}
		if length == 0 {
			continue
		}
		label, known := words.find(run.name)
		if !known {
			report(LabelUnknown, column, quote(run.name)+" is not an allowed label")
		} else if previous == run.name && !full {
			report(Separator, column, "two runs of "+quote(run.name)+" side by side")
		}
		previous = run.name
		for range length {
			read.cells = append(read.cells, label)
		}
	}
	read.filled = len(read.cells)
	if more && !isBlank(segments[at.width]) {
		report(RowLong, at.width, fmt.Sprintf("more than %d runs", at.width))
	} else if more || (blanks && len(pieces) > 0 && !(at.cut && !at.final)) {
		report(Separator, read.filled, "an empty run")
	}
	if read.filled < at.width {
		if at.final || !at.cut {
			detail := fmt.Sprintf("%d of %d patches are described", read.filled, at.width)
			report(RowShort, read.filled, detail)
		}
		read.cells = append(read.cells, make([]int, at.width-read.filled)...)
	}
	slices.SortStableFunc(read.repairs, func(a, b Repair) int {
		return cmp.Or(cmp.Compare(a.Row, b.Row), cmp.Compare(a.Column, b.Column))
	})
	return read
}
