// Package overlay draws regions and boxes over a photograph: translucent colour, a crisp contour, and tags with label and
// score. It draws the same pixels as the Python client does from the same answer.
package overlay

import (
	"cmp"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"math"
	"slices"
	"strings"

	"golang.org/x/text/cases"
	"golang.org/x/text/language"

	pb "github.com/text4seg/text4seg-serving/clients/go/gen/text4seg/v1"
	"github.com/text4seg/text4seg-serving/clients/go/mask"
)

// Mark is what is drawn: a region or a detection of an answer.
type Mark struct {
	Label string
	Score float32
	Box   image.Rectangle
	Mask  *mask.Mask // of the size of the photograph; nil: the box is outlined
}

// Regions returns the marks of regions. It fails when a mask cannot be read. Masks of grid cells are left out: their
// regions are drawn as boxes.
func Regions(regions []*pb.Region) ([]Mark, error) {
	marks := make([]Mark, len(regions))
	for i, region := range regions {
		marks[i] = Mark{Label: region.GetLabel(), Score: region.GetScore(), Box: boxOf(region.GetBox())}
		if region.GetMask().GetForm() == nil || region.GetMask().GetGrid() != nil {
			continue
		}
		pixels, err := mask.FromProto(region.GetMask())
		if err != nil {
			return nil, fmt.Errorf("region %d, %q: %w", i, region.GetLabel(), err)
		}
		marks[i].Mask = &pixels
	}
	return marks, nil
}

// Detections returns the marks of detections.
func Detections(detections []*pb.Detection) []Mark {
	marks := make([]Mark, len(detections))
	for i, found := range detections {
		marks[i] = Mark{Label: found.GetLabel(), Score: found.GetScore(), Box: boxOf(found.GetBox())}
	}
	return marks
}

// Labels returns the texts of a query as answers spell them, lower-cased and with single spaces, for [Draw].
func Labels(texts ...string) []string {
	lower := cases.Lower(language.Und, cases.HandleFinalSigma(true))
	labels := make([]string, len(texts))
	for i, text := range texts {
		labels[i] = strings.Join(strings.Fields(lower.String(text)), " ")
	}
	return labels
}

func boxOf(box *pb.Box) image.Rectangle {
	return image.Rectangle{
		image.Pt(int(box.GetX0()), int(box.GetY0())), image.Pt(int(box.GetX1()), int(box.GetY1())),
	}
}

// Picked to stay apart from each other and from skin, foliage and sky; drawn in this order.
var palette = [...]color.RGBA{
	{30, 144, 255, 255},
	{255, 72, 96, 255},
	{255, 184, 0, 255},
	{46, 204, 113, 255},
	{168, 98, 245, 255},
	{0, 206, 209, 255},
	{255, 122, 41, 255},
	{255, 120, 200, 255},
	{176, 214, 40, 255},
	{92, 100, 255, 255},
	{205, 140, 90, 255},
	{230, 230, 230, 255},
}

// The palette again, darker and then paler: the grey to move towards, and how far.
var shades = [...]struct{ target, share float64 }{{0, 0}, {0, 0.45}, {255, 0.6}}

const (
	fill        = float32(0.38)
	mostRimWork = 50_000_000
)

var (
	black   = color.RGBA{0, 0, 0, 255}
	outline = color.RGBA{20, 20, 20, 255}
)

// ColorOf returns the colour of the label with this index in the query: always the same one, and unlike those of the 35
// next labels.
func ColorOf(index int) color.RGBA {
	shade := shades[index/len(palette)%len(shades)]
	base := palette[index%len(palette)]
	move := func(channel uint8) uint8 {
		from := float64(channel)
		return uint8(math.RoundToEven(from + float64((shade.target-from)*shade.share)))
	}
	return color.RGBA{move(base.R), move(base.G), move(base.B), 255}
}

// Draw returns a copy of a photograph with what was found in it. Regions are tinted, larger ones first so that small ones
// stay visible; marks without a mask get their box outlined. labels are those of the query in its order
// ([Labels]): each gives its label a colour; labels that are not among them follow in the order of the marks. It fails when a
// mask has another size than the photograph.
func Draw(photograph image.Image, marks []Mark, labels []string) (*image.RGBA, error) {
	bounds := photograph.Bounds()
	width, height := bounds.Dx(), bounds.Dy()
	picture := image.NewRGBA(image.Rect(0, 0, width, height))
	draw.Draw(picture, picture.Rect, image.Black, image.Point{}, draw.Src)
	draw.Draw(picture, picture.Rect, photograph, bounds.Min, draw.Over)
	colours := coloursOf(marks, labels)
	line := max(1, int(math.RoundToEven(float64(min(width, height))/240)))
	canvas := newCanvas(picture)
	extents := make(map[*Mark]int, len(marks))
	order := make([]*Mark, len(marks))
	for i := range marks {
		order[i] = &marks[i]
		extents[order[i]] = extentOf(marks[i])
	}
	slices.SortStableFunc(order, func(a, b *Mark) int { return cmp.Compare(extents[b], extents[a]) })
	for _, mark := range order {
		if mark.Mask == nil {
			continue
		}
		if mark.Mask.Height != height || mark.Mask.Width != width {
			return nil, fmt.Errorf("overlay: the mask of %q is %d x %d, the photograph %d x %d",
				mark.Label, mark.Mask.Height, mark.Mask.Width, height, width)
		}
		canvas.tint(*mark.Mask, colours[mark.Label], line)
	}
	canvas.store(picture)
	for _, mark := range marks {
		if mark.Mask == nil {
			outlineBox(picture, mark.Box, colours[mark.Label], line)
		}
	}
	drawTags(picture, marks, colours)
	return picture, nil
}

func coloursOf(marks []Mark, labels []string) map[string]color.RGBA {
	colours := map[string]color.RGBA{}
	add := func(label string) {
		if _, has := colours[label]; !has {
			colours[label] = ColorOf(len(colours))
		}
	}
	for _, label := range labels {
		add(label)
	}
	for _, mark := range marks {
		add(mark.Label)
	}
	return colours
}

func extentOf(mark Mark) int {
	if mark.Mask != nil {
		return mark.Mask.Area()
	}
	return mark.Box.Dx() * mark.Box.Dy()
}

// outlineBox draws the box in its colour, with a dark line on both sides.
func outlineBox(picture *image.RGBA, box image.Rectangle, colour color.RGBA, line int) {
	if box.Dx() <= 0 || box.Dy() <= 0 {
		return
	}
	frame(picture, box.Min.X, box.Min.Y, box.Max.X-1, box.Max.Y-1, outline, line+2)
	x0, y0, x1, y1 := box.Min.X+1, box.Min.Y+1, box.Max.X-2, box.Max.Y-2
	if x1 >= x0 && y1 >= y0 {
		frame(picture, x0, y0, x1, y1, colour, line+1)
	}
}

// frame draws the edge of a rectangle, inwards, with Pillow's lines: in a rectangle smaller than twice the width of the
// line they go beyond it.
func frame(picture *image.RGBA, x0, y0, x1, y1 int, colour color.RGBA, width int) {
	begin, end := y0+width, y1-width // of the upright lines between the level ones
	if end < begin-1 {
		begin, end = end+2, begin
	}
	for i := range width {
		bar(picture, x0, y0+i, x1, y0+i, colour)
		bar(picture, x0, y1-i, x1, y1-i, colour)
		bar(picture, x1-i, begin, x1-i, end, colour)
		bar(picture, x0+i, begin, x0+i, end, colour)
	}
}

// bar fills a rectangle, both corners included.
func bar(picture *image.RGBA, x0, y0, x1, y1 int, colour color.RGBA) {
	if x1 < x0 || y1 < y0 { // image.Rect would swap them
		return
	}
	draw.Draw(picture, image.Rect(x0, y0, x1+1, y1+1), image.NewUniform(colour), image.Point{}, draw.Src)
}
