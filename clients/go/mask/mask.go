// Package mask holds masks of images: which pixels belong to a region, and the forms in which the services send them.
//
// Rows count down from the top of the upright image, columns to the right.
package mask

import (
	"errors"
	"fmt"
	"image"
	"image/color"
)

// MaxPixels is the largest mask that is read from what a server sent.
const MaxPixels = 1 << 27

// ErrInvalid is the cause of every error of this package: a mask that cannot be read.
var ErrInvalid = errors.New("mask cannot be read")

// Mask says of each pixel of an image whether it belongs to a region.
type Mask struct {
	Height, Width int
	Pixels        []bool // Height * Width of them, row by row
}

// New returns a mask without foreground.
func New(height, width int) Mask {
	return Mask{Height: height, Width: width, Pixels: make([]bool, height*width)}
}

// At says whether a pixel belongs to the region.
func (m Mask) At(row, column int) bool { return m.Pixels[row*m.Width+column] }

// Area returns the number of pixels that belong to the region.
func (m Mask) Area() int {
	area := 0
	for _, inside := range m.Pixels {
		if inside {
			area++
		}
	}
	return area
}

// Box returns the tight box around the region: half-open, X to the right and Y down. It is empty when the region is.
func (m Mask) Box() image.Rectangle {
	var box image.Rectangle
	for row := range m.Height {
		first, last := -1, -1
		for column, inside := range m.Pixels[row*m.Width : (row+1)*m.Width] {
			if inside {
				last = column
				if first < 0 {
					first = column
				}
			}
		}
		if first >= 0 {
			box = box.Union(image.Rect(first, row, last+1, row+1))
		}
	}
	return box
}

// Resize returns the mask with another number of pixels. Each takes the value of the old pixel under its centre; a centre
// on the edge between two takes the later one. It is how the services make the coarse mask of an image from grid cells.
func (m Mask) Resize(height, width int) Mask {
	resized := New(height, width)
	columns := make([]int, width)
	for column := range columns {
		columns[column] = (2*column + 1) * m.Width / (2 * width)
	}
	for row := range height {
		from := m.Pixels[(2*row+1)*m.Height/(2*height)*m.Width:]
		for column, source := range columns {
			resized.Pixels[row*width+column] = from[source]
		}
	}
	return resized
}

// Image returns the mask as a grey image, white where the region is.
func (m Mask) Image() *image.Gray {
	picture := image.NewGray(image.Rect(0, 0, m.Width, m.Height))
	for i, inside := range m.Pixels {
		if inside {
			picture.Pix[i] = 0xff
		}
	}
	return picture
}

// FromImage returns the mask of what is white in a picture, lighter than middle grey.
func FromImage(picture image.Image) Mask {
	bounds := picture.Bounds()
	read := New(bounds.Dy(), bounds.Dx())
	for row := range read.Height {
		for column := range read.Width {
			grey := color.GrayModel.Convert(picture.At(bounds.Min.X+column, bounds.Min.Y+row)).(color.Gray)
			read.Pixels[row*read.Width+column] = grey.Y > 127
		}
	}
	return read
}

func checkSize(height, width int) error {
	if height < 1 || width < 1 || height > MaxPixels || width > MaxPixels || height*width > MaxPixels {
		return fmt.Errorf("%w: it is %d x %d, not between 1 and %d pixels", ErrInvalid, height, width, MaxPixels)
	}
	return nil
}
