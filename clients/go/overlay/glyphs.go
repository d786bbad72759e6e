package overlay

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"encoding/binary"
	"image"
	"io"
	"sync"
)

// The letters as Pillow draws them: make_glyphs.py writes the file.
//
//go:embed glyphs.gz
var packedGlyphs []byte

const (
	smallestFont = 11
	largestFont  = 48
	missingGlyph = '\U0010ffff'
)

// font is the typeface at one size, and what a tag in it looks like.
type font struct {
	margin              int // around the text, and the radius of the tag's corners
	lineTop, lineBottom int // the height of text whatever its letters, down from the origin
	corner              []byte
	glyphs              map[rune]glyph
}

type glyph struct {
	advance int
	bounds  image.Rectangle // relative to the origin, spaces included
	ink     image.Point     // of the alpha's upper left corner, relative to the origin
	width   int
	alpha   []byte
}

const (
	outsideCorner = iota
	onCorner
	insideCorner
)

// fonts holds one font per size, from the smallest.
var fonts = sync.OnceValue(func() []font {
	unpacker, err := gzip.NewReader(bytes.NewReader(packedGlyphs))
	if err != nil {
		panic(err) // the file is part of the program
	}
	content, err := io.ReadAll(unpacker)
	if err != nil {
		panic(err)
	}
	var sheets []font
	for reader := bytes.NewBuffer(content); reader.Len() > 0; {
		sheets = append(sheets, readFont(reader))
	}
	return sheets
})

func fontOf(size int) *font { return &fonts()[min(max(size, smallestFont), largestFont)-smallestFont] }

func readFont(file *bytes.Buffer) font {
	head := file.Next(6)
	read := font{
		margin:     int(head[1]),
		lineTop:    int(int8(head[2])),
		lineBottom: int(int8(head[3])),
		glyphs:     map[rune]glyph{},
	}
	read.corner = file.Next((read.margin + 1) * (read.margin + 1))
	for range binary.BigEndian.Uint16(head[4:]) {
		measures := file.Next(13)
		signed := func(i int) int { return int(int8(measures[4+i])) }
		width, height := int(measures[11]), int(measures[12])
		read.glyphs[rune(binary.BigEndian.Uint32(measures))] = glyph{
			advance: signed(0),
			bounds:  image.Rectangle{image.Pt(signed(1), signed(2)), image.Pt(signed(3), signed(4))},
			ink:     image.Pt(signed(5), signed(6)),
			width:   width,
			alpha:   file.Next(width * height),
		}
	}
	return read
}

func (f *font) glyph(char rune) glyph {
	if found, has := f.glyphs[char]; has {
		return found
	}
	return f.glyphs[missingGlyph]
}

// length returns how far a text advances.
func (f *font) length(text string) int {
	length := 0
	for _, char := range text {
		length += f.glyph(char).advance
	}
	return length
}

// bounds returns where a text is, relative to its origin.
func (f *font) bounds(text string) image.Rectangle {
	var bounds image.Rectangle
	at := 0
	for i, char := range text {
		letter := f.glyph(char)
		moved := letter.bounds.Add(image.Pt(at, 0))
		if i == 0 {
			bounds = moved
		}
		bounds = image.Rect(
			min(bounds.Min.X, moved.Min.X), min(bounds.Min.Y, moved.Min.Y),
			max(bounds.Max.X, moved.Max.X), max(bounds.Max.Y, moved.Max.Y))
		at += letter.advance
	}
	return bounds
}

// coverage returns how much of each pixel a text covers, 0 to 255, in its bounds.
func (f *font) coverage(text string) *image.Alpha {
	covered := image.NewAlpha(f.bounds(text))
	at := 0
	for _, char := range text {
		letter := f.glyph(char)
		for i, alpha := range letter.alpha {
			point := letter.ink.Add(image.Pt(at+i%letter.width, i/letter.width))
			if point.In(covered.Rect) {
				pixel := &covered.Pix[covered.PixOffset(point.X, point.Y)]
				*pixel = alpha + share(*pixel, 255-alpha)
			}
		}
		at += letter.advance
	}
	return covered
}

// share returns a * b / 255, rounded, as Pillow computes it.
func share(a, b uint8) uint8 { return uint8(div255(int(a) * int(b))) }

func div255(product int) int {
	product += 128
	return (product>>8 + product) >> 8
}
