package overlay

import (
	"image"
	"image/color"
	"math"

	"github.com/text4seg/text4seg-serving/clients/go/mask"
)

// canvas holds red, green and blue of every pixel, 0 to 255, without rounding between one region and the next. All sums
// are in 32 bits, step by step as NumPy does them: hence the conversions, which keep a compiler from fusing steps.
type canvas struct {
	width, height int
	colours       []float32
}

func newCanvas(picture *image.RGBA) canvas {
	size := picture.Rect.Size()
	made := canvas{size.X, size.Y, make([]float32, 3*size.X*size.Y)}
	for i := range size.X * size.Y {
		for channel := range 3 {
			made.colours[3*i+channel] = float32(picture.Pix[4*i+channel])
		}
	}
	return made
}

func (c canvas) store(picture *image.RGBA) {
	for i := range c.width * c.height {
		for channel := range 3 {
			picture.Pix[4*i+channel] = uint8(math.RoundToEven(float64(c.colours[3*i+channel])))
		}
	}
}

// tint blends the colour into the mask, with an opaque rim inside it and a dark hairline around it.
func (c canvas) tint(region mask.Mask, colour color.RGBA, line int) {
	box := region.Box()
	if box.Empty() {
		return
	}
	window := box.Inset(-(line + 2)).Intersect(image.Rect(0, 0, c.width, c.height))
	inside := cut(region, window)
	edge := inside.and(inside.eroded().not())
	hairline := inside.not().and(edge.widened(max(1, line/2))).softened()
	for i := range hairline {
		hairline[i] *= 0.6
	}
	c.blend(window, black, hairline)
	rim := inside.and(edge.widened(line - 1)).softened()
	for i, in := range inside.pixels {
		if in {
			rim[i] = max(rim[i], fill)
		}
	}
	c.blend(window, colour, rim)
}

func (c canvas) blend(window image.Rectangle, colour color.RGBA, alpha []float32) {
	paint := [3]float32{float32(colour.R), float32(colour.G), float32(colour.B)}
	for row := range window.Dy() {
		for column := range window.Dx() {
			pixel := c.colours[3*((window.Min.Y+row)*c.width+window.Min.X+column):]
			share := alpha[row*window.Dx()+column]
			for channel := range 3 {
				step := float32(share * float32(paint[channel]-pixel[channel]))
				pixel[channel] += step
			}
		}
	}
}

// patch is a part of a mask.
type patch struct {
	height, width int
	pixels        []bool
}

func cut(region mask.Mask, window image.Rectangle) patch {
	part := patch{window.Dy(), window.Dx(), make([]bool, 0, window.Dy()*window.Dx())}
	for row := window.Min.Y; row < window.Max.Y; row++ {
		begin := row * region.Width
		part.pixels = append(part.pixels, region.Pixels[begin+window.Min.X:begin+window.Max.X]...)
	}
	return part
}

func (p patch) not() patch {
	inverted := patch{p.height, p.width, make([]bool, len(p.pixels))}
	for i, in := range p.pixels {
		inverted.pixels[i] = !in
	}
	return inverted
}

func (p patch) and(other patch) patch {
	both := patch{p.height, p.width, make([]bool, len(p.pixels))}
	for i, in := range p.pixels {
		both.pixels[i] = in && other.pixels[i]
	}
	return both
}

// at returns a pixel; beyond the patch, its nearest one.
func (p patch) at(row, column int) bool {
	return p.pixels[min(max(row, 0), p.height-1)*p.width+min(max(column, 0), p.width-1)]
}

// eroded takes off the outermost pixels (4 neighbours); the picture's edge is no edge of the mask.
func (p patch) eroded() patch {
	inner := patch{p.height, p.width, make([]bool, len(p.pixels))}
	for row := range p.height {
		for column := range p.width {
			inner.pixels[row*p.width+column] = p.at(row, column) && p.at(row-1, column) && p.at(row+1, column) &&
				p.at(row, column-1) && p.at(row, column+1)
		}
	}
	return inner
}

// widened returns all pixels within a radius of the line; just the line where it is most of the picture.
func (p patch) widened(radius int) patch {
	var disc []image.Point
	for down := -radius; down <= radius; down++ {
		for right := -radius; right <= radius; right++ {
			if down*down+right*right <= radius*radius {
				disc = append(disc, image.Pt(right, down))
			}
		}
	}
	var set []image.Point
	for i, in := range p.pixels {
		if in {
			set = append(set, image.Pt(i%p.width, i/p.width))
		}
	}
	if len(set)*len(disc) > mostRimWork {
		return p
	}
	bounds := image.Rect(0, 0, p.width, p.height)
	wide := patch{p.height, p.width, make([]bool, len(p.pixels))}
	for _, point := range set {
		for _, step := range disc {
			if near := point.Add(step); near.In(bounds) {
				wide.pixels[near.Y*p.width+near.X] = true
			}
		}
	}
	return wide
}

// softened returns the mean over 3 x 3 pixels, stretched so that a one-pixel line stays opaque: a cheap antialiasing.
func (p patch) softened() []float32 {
	soft := make([]float32, len(p.pixels))
	weights := [3]float32{1, 2, 1}
	for row := range p.height {
		for column := range p.width {
			var sum float32 // of whole numbers: exact
			for down, heavy := range weights {
				for right, weight := range weights {
					if p.at(row+down-1, column+right-1) {
						sum += heavy * weight
					}
				}
			}
			soft[row*p.width+column] = min(float32(sum/16*1.6), 1)
		}
	}
	return soft
}
