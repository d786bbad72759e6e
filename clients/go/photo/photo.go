// Package photo reads image files as the services and the Python client see them: upright, 8-bit RGB, the first frame,
// transparent parts over black. Coordinates in answers are pixels of this image.
package photo

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	_ "image/gif" // the formats that are read
	_ "image/png"

	_ "golang.org/x/image/bmp"
	_ "golang.org/x/image/tiff"
)

// MaxPixels is the largest image that is read.
const MaxPixels = 1 << 27

// ErrInvalid is the cause of every error of [Decode]: a file that holds no image that can be read.
var ErrInvalid = errors.New("image cannot be read")

// Decode reads a JPEG, PNG, WebP, BMP, TIFF or GIF file. The result is opaque. Of JPEG files, whose decoders may round
// differently, single pixels differ from the Python client's by a few levels.
func Decode(file []byte) (*image.RGBA, error) {
	header, _, err := image.DecodeConfig(bytes.NewReader(file))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if header.Width < 1 || header.Height < 1 || header.Width > MaxPixels/header.Height {
		return nil, fmt.Errorf("%w: it is %d x %d pixels", ErrInvalid, header.Width, header.Height)
	}
	decoded, format, err := image.Decode(bytes.NewReader(file))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return upright(opaque(decoded, format), orientation(file, format)), nil
}

// opaque converts to 8-bit RGB, transparent parts over black.
func opaque(decoded image.Image, format string) *image.RGBA {
	bounds := decoded.Bounds()
	picture := image.NewRGBA(image.Rect(0, 0, bounds.Dx(), bounds.Dy()))
	switch source := decoded.(type) {
	case *image.YCbCr:
		if format == "webp" {
			convertWebP(picture, source, nil)
		} else {
			convertJPEG(picture, source)
		}
	case *image.NYCbCrA:
		convertWebP(picture, &source.YCbCr, source)
	case *image.RGBA:
		overBlack(picture, source, func(x, y int) color.NRGBA {
			return color.NRGBAModel.Convert(source.RGBAAt(x, y)).(color.NRGBA)
		})
	case *image.NRGBA:
		overBlack(picture, source, source.NRGBAAt)
	case *image.NRGBA64:
		overBlack(picture, source, func(x, y int) color.NRGBA {
			deep := source.NRGBA64At(x, y)
			return color.NRGBA{uint8(deep.R >> 8), uint8(deep.G >> 8), uint8(deep.B >> 8), uint8(deep.A >> 8)}
		})
	case *image.Gray16:
		overBlack(picture, source, func(x, y int) color.NRGBA {
			grey := uint8(source.Gray16At(x, y).Y >> 8)
			return color.NRGBA{grey, grey, grey, 255}
		})
	case *image.CMYK:
		overBlack(picture, source, func(x, y int) color.NRGBA {
			ink := source.CMYKAt(x, y)
			return color.NRGBA{without(ink.C, ink.K), without(ink.M, ink.K), without(ink.Y, ink.K), 255}
		})
	case *image.Gray:
		draw.Draw(picture, picture.Rect, source, bounds.Min, draw.Src)
	default:
		overBlack(picture, source, func(x, y int) color.NRGBA {
			return color.NRGBAModel.Convert(source.At(x, y)).(color.NRGBA)
		})
	}
	return picture
}

// without returns what paper reflects of a colour under so much ink of its own and of black.
func without(ink, black uint8) uint8 { return uint8(div255((255 - int(ink)) * (255 - int(black)))) }

func overBlack(picture *image.RGBA, source image.Image, at func(x, y int) color.NRGBA) {
	from := source.Bounds().Min
	for y := range picture.Rect.Dy() {
		for x := range picture.Rect.Dx() {
			pixel := at(from.X+x, from.Y+y)
			pixel.R, pixel.G, pixel.B = dim(pixel.R, pixel.A), dim(pixel.G, pixel.A), dim(pixel.B, pixel.A)
			picture.SetRGBA(x, y, color.RGBA{pixel.R, pixel.G, pixel.B, 255})
		}
	}
}

// dim returns a channel laid over black, rounded as Pillow's alpha_composite does.
func dim(channel, alpha uint8) uint8 {
	const bits = 7
	scaled := int(channel)*int(alpha)<<bits + 0x80<<bits
	return uint8((scaled>>8 + scaled) >> 8 >> bits)
}

func div255(product int) int {
	product += 128
	return (product>>8 + product) >> 8
}

// upright turns and mirrors as EXIF's orientation, 1 to 8, says.
func upright(picture *image.RGBA, orientation int) *image.RGBA {
	if orientation <= 1 {
		return picture
	}
	width, height := picture.Rect.Dx(), picture.Rect.Dy()
	size := image.Rect(0, 0, width, height)
	if orientation >= 5 {
		size = image.Rect(0, 0, height, width)
	}
	turned := image.NewRGBA(size)
	for y := range size.Dy() {
		for x := range size.Dx() {
			fromX, fromY := x, y
			switch orientation {
			case 2:
				fromX = width - 1 - x
			case 3:
				fromX, fromY = width-1-x, height-1-y
			case 4:
				fromY = height - 1 - y
			case 5:
				fromX, fromY = y, x
			case 6:
				fromX, fromY = y, height-1-x
			case 7:
				fromX, fromY = width-1-y, height-1-x
			case 8:
				fromX, fromY = width-1-y, x
			}
			turned.SetRGBA(x, y, picture.RGBAAt(fromX, fromY))
		}
	}
	return turned
}
