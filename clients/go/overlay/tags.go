package overlay

import (
	"image"
	"image/color"
	"math"
	"strconv"
	"strings"
	"unicode"
)

func drawTags(picture *image.RGBA, marks []Mark, colours map[string]color.RGBA) {
	size := picture.Rect.Size()
	letters := fontOf(int(math.RoundToEven(float64(min(size.X, size.Y)) / 30)))
	var placed []image.Rectangle
	for _, mark := range marks {
		score := strconv.FormatFloat(float64(mark.Score), 'f', 2, 64)
		text := letters.fit(mark.Label, score, size.X-2*letters.margin)
		bounds := letters.bounds(text)
		// The height of a tag does not depend on which letters the label happens to have.
		top := min(bounds.Min.Y, letters.lineTop)
		extent := image.Pt(bounds.Dx(), max(bounds.Max.Y, letters.lineBottom)-top)
		tag := place(mark.Box, extent.Add(image.Pt(2*letters.margin, 2*letters.margin)), size, placed)
		placed = append(placed, tag)
		colour := colours[mark.Label]
		letters.drawLabel(picture, tag, colour)
		ink := color.RGBA{255, 255, 255, 255}
		if luminance(colour) > 0.22 {
			ink = color.RGBA{15, 15, 15, 255}
		}
		origin := tag.Min.Add(image.Pt(letters.margin-bounds.Min.X, letters.margin-top))
		letters.write(picture, origin, text, ink)
	}
}

// fit shortens the label, not the score, until the text fits.
func (f *font) fit(label, score string, width int) string {
	if text := label + " " + score; f.length(text) <= width {
		return text
	}
	characters := []rune(label)
	for keep := len(characters) - 1; keep > 0; keep-- {
		shorter := strings.TrimRightFunc(string(characters[:keep]), unicode.IsSpace) + "… " + score
		if f.length(shorter) <= width {
			return shorter
		}
	}
	return score
}

// place puts a tag by its box, inside the picture, where it hides the fewest other tags. The first of the usual places
// that is free wins: above the box, inside its top, below it, then rows further down.
func place(box image.Rectangle, tag, size image.Point, placed []image.Rectangle) image.Rectangle {
	tops := []int{box.Min.Y - tag.Y, box.Min.Y + 2, box.Max.Y}
	for top := box.Min.Y + 2 + tag.Y; top < size.Y; top += tag.Y {
		tops = append(tops, top)
	}
	best, least := image.Rectangle{}, -1
	for _, top := range tops {
		for _, left := range []int{box.Min.X, box.Max.X - tag.X} {
			corner := image.Pt(max(0, min(left, size.X-tag.X)), max(0, min(top, size.Y-tag.Y)))
			candidate := image.Rectangle{corner, corner.Add(tag)}
			hidden := 0
			for _, other := range placed {
				common := candidate.Intersect(other)
				hidden += common.Dx() * common.Dy()
			}
			if least < 0 || hidden < least {
				best, least = candidate, hidden
			}
		}
	}
	return best
}

// drawLabel draws a tag's ground: a rectangle with round corners and a dark outline.
func (f *font) drawLabel(picture *image.RGBA, tag image.Rectangle, colour color.RGBA) {
	side := f.margin + 1
	for y := tag.Min.Y; y < tag.Max.Y; y++ {
		for x := tag.Min.X; x < tag.Max.X; x++ {
			if !image.Pt(x, y).In(picture.Rect) {
				continue
			}
			// The distance from the nearest corner; all four are alike.
			right, down := min(x-tag.Min.X, tag.Max.X-1-x), min(y-tag.Min.Y, tag.Max.Y-1-y)
			part := byte(insideCorner)
			if right < side && down < side {
				part = f.corner[down*side+right]
			} else if right == 0 || down == 0 {
				part = onCorner
			}
			switch part {
			case insideCorner:
				picture.SetRGBA(x, y, colour)
			case onCorner:
				picture.SetRGBA(x, y, outline)
			}
		}
	}
}

func (f *font) write(picture *image.RGBA, origin image.Point, text string, ink color.RGBA) {
	covered := f.coverage(text)
	for y := covered.Rect.Min.Y; y < covered.Rect.Max.Y; y++ {
		for x := covered.Rect.Min.X; x < covered.Rect.Max.X; x++ {
			at := origin.Add(image.Pt(x, y))
			if alpha := covered.AlphaAt(x, y).A; alpha > 0 && at.In(picture.Rect) {
				under := picture.RGBAAt(at.X, at.Y)
				picture.SetRGBA(at.X, at.Y, color.RGBA{
					mix(under.R, ink.R, alpha), mix(under.G, ink.G, alpha), mix(under.B, ink.B, alpha), 255,
				})
			}
		}
	}
}

func mix(under, over, alpha uint8) uint8 {
	return uint8(div255(int(under)*(255-int(alpha)) + int(over)*int(alpha)))
}

// luminance returns the relative luminance after WCAG 2.1, 0 to 1.
func luminance(colour color.RGBA) float64 {
	linear := func(channel uint8) float64 {
		value := float64(channel) / 255
		if value <= 0.03928 {
			return value / 12.92
		}
		return math.Pow((value+0.055)/1.055, 2.4)
	}
	return 0.2126*linear(colour.R) + 0.7152*linear(colour.G) + 0.0722*linear(colour.B)
}
