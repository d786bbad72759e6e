package photo

import (
	"image"
	_ "image/jpeg" // registers the format
)

// convertJPEG converts to RGB as libjpeg does, which the services and the Python client read files with: colours between
// samples are interpolated, where Go repeats them ("fancy upsampling", jdsample.c), and the conversion has 16 bits
// (jdcolor.c).
func convertJPEG(picture *image.RGBA, source *image.YCbCr) {
	width, height := picture.Rect.Dx(), picture.Rect.Dy()
	blue := upsample(plane{source.Cb, source.CStride}, source.SubsampleRatio, width, height)
	red := upsample(plane{source.Cr, source.CStride}, source.SubsampleRatio, width, height)
	for y := range height {
		for x := range width {
			light := int(source.Y[y*source.YStride+x])
			cb, cr := int(blue[y*width+x])-128, int(red[y*width+x])-128
			pixel := picture.Pix[picture.PixOffset(x, y):]
			pixel[0] = clamp(light + (91881*cr+32768)>>16)
			pixel[1] = clamp(light + (-22554*cb-46802*cr+32768)>>16)
			pixel[2] = clamp(light + (116130*cb+32768)>>16)
			pixel[3] = 255
		}
	}
}

func clamp(value int) uint8 { return uint8(min(max(value, 0), 255)) }

// plane is one channel of colour.
type plane struct {
	samples []uint8
	stride  int
}

// upsample returns a channel with a sample for every pixel.
func upsample(channel plane, ratio image.YCbCrSubsampleRatio, width, height int) []uint8 {
	across, down := 1, 1
	switch ratio {
	case image.YCbCrSubsampleRatio422:
		across = 2
	case image.YCbCrSubsampleRatio420:
		across, down = 2, 2
	case image.YCbCrSubsampleRatio440:
		down = 2
	case image.YCbCrSubsampleRatio411:
		across = 4
	case image.YCbCrSubsampleRatio410:
		across, down = 4, 2
	}
	columns, rows := (width+across-1)/across, (height+down-1)/down
	at := func(row, column int) int {
		row = min(max(row, 0), rows-1)
		return int(channel.samples[row*channel.stride+min(max(column, 0), columns-1)])
	}
	full := make([]uint8, 0, width*height)
	interpolated := across <= 2 && (across == 1 || columns > 2)
	for y := range height {
		for x := range width {
			row, column := y/down, x/across
			if !interpolated {
				full = append(full, uint8(at(row, column)))
				continue
			}
			nextRow, nextColumn := row+2*(y%2)-1, column+2*(x%2)-1
			switch {
			case across == 2 && down == 2:
				near := 3*at(row, column) + at(nextRow, column)
				beside := 3*at(row, nextColumn) + at(nextRow, nextColumn)
				full = append(full, uint8((3*near+beside+8-x%2)>>4))
			case across == 2 && (nextColumn < 0 || nextColumn >= columns):
				full = append(full, uint8(at(row, column)))
			case across == 2:
				full = append(full, uint8((3*at(row, column)+at(row, nextColumn)+1+x%2)>>2))
			case down == 2:
				full = append(full, uint8((3*at(row, column)+at(nextRow, column)+1+y%2)>>2))
			default:
				full = append(full, uint8(at(row, column)))
			}
		}
	}
	return full
}
