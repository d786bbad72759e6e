package photo

import (
	"image"

	_ "golang.org/x/image/webp" // registers the format
)

// convertWebP converts to RGB as libwebp does: colours between samples are interpolated (upsampling.c), and light has the
// range of video, 16 to 235 (yuv.h). alpha may be nil.
func convertWebP(picture *image.RGBA, source *image.YCbCr, alpha *image.NYCbCrA) {
	width, height := picture.Rect.Dx(), picture.Rect.Dy()
	columns, rows := (width+1)/2, (height+1)/2
	for y := range height {
		row := y / 2
		next := min(max(row+2*(y%2)-1, 0), rows-1)
		for x := range width {
			column := x / 2
			beside := column + 2*(x%2) - 1
			between := func(samples []uint8) int {
				near, below := int(samples[row*source.CStride+column]), int(samples[next*source.CStride+column])
				if beside < 0 || beside >= columns {
					return (3*near + below + 2) >> 2
				}
				right, far := int(samples[row*source.CStride+beside]), int(samples[next*source.CStride+beside])
				return ((near+3*right+3*below+far+8)>>3 + near) >> 1
			}
			light := int(source.Y[y*source.YStride+x]) * 19077 >> 8
			u, v := between(source.Cb), between(source.Cr)
			pixel := picture.Pix[picture.PixOffset(x, y):]
			pixel[0] = clamp((light + v*26149>>8 - 14234) >> 6)
			pixel[1] = clamp((light - u*6419>>8 - v*13320>>8 + 8708) >> 6)
			pixel[2] = clamp((light + u*33050>>8 - 17685) >> 6)
			pixel[3] = 255
			if alpha != nil {
				for channel := range 3 {
					pixel[channel] = dim(pixel[channel], alpha.A[y*alpha.AStride+x])
				}
			}
		}
	}
}
