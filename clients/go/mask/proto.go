package mask

import (
	"bytes"
	"fmt"
	"image/png"
	"math"
	"slices"

	pb "github.com/text4seg/text4seg-serving/clients/go/gen/text4seg/v1"
)

const maxCoordinate = 1 << 24

// FromProto reads a mask in any of the forms in which the services send them. A mask of grid cells has one pixel per cell;
// [Mask.Resize] gives it the size of the image. It fails with [ErrInvalid], also for a message without a mask.
func FromProto(message *pb.Mask) (Mask, error) {
	switch form := message.GetForm().(type) {
	case *pb.Mask_Rle:
		return DecodeRLE(form.Rle)
	case *pb.Mask_Grid:
		return decodeGrid(form.Grid)
	case *pb.Mask_Png:
		return decodePNG(form.Png)
	case *pb.Mask_Polygon:
		return decodePolygon(form.Polygon)
	}
	return Mask{}, fmt.Errorf("%w: there is none", ErrInvalid)
}

func decodeGrid(message *pb.GridMask) (Mask, error) {
	rows, columns := int(message.GetRows()), int(message.GetColumns())
	if err := checkSize(rows, columns); err != nil {
		return Mask{}, err
	}
	cells := message.GetCells()
	if len(cells) != rows*columns {
		return Mask{}, fmt.Errorf("%w: a grid of %d x %d cells holds %d", ErrInvalid, rows, columns, len(cells))
	}
	decoded := New(rows, columns)
	for i, cell := range cells {
		decoded.Pixels[i] = cell > 127
	}
	return decoded, nil
}

func decodePNG(file []byte) (Mask, error) {
	header, err := png.DecodeConfig(bytes.NewReader(file))
	if err != nil {
		return Mask{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if err := checkSize(header.Height, header.Width); err != nil {
		return Mask{}, err
	}
	picture, err := png.Decode(bytes.NewReader(file))
	if err != nil {
		return Mask{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return FromImage(picture), nil
}

// decodePolygon fills outlines by the even-odd rule: a pixel is foreground when its centre is inside. A centre on an edge
// belongs to the polygon on its right or below it.
func decodePolygon(message *pb.Polygon) (Mask, error) {
	height, width := int(message.GetSize().GetHeight()), int(message.GetSize().GetWidth())
	if err := checkSize(height, width); err != nil {
		return Mask{}, err
	}
	crossings := make([][]int, height) // columns at which a row goes in or out
	for _, ring := range message.GetRings() {
		points := ring.GetPoints()
		if len(points) < 3 {
			return Mask{}, fmt.Errorf("%w: an outline has %d corners", ErrInvalid, len(points))
		}
		for i, point := range points {
			x, y := float64(point.GetX()), float64(point.GetY())
			if !(math.Abs(x) <= maxCoordinate && math.Abs(y) <= maxCoordinate) {
				return Mask{}, fmt.Errorf("%w: a corner is far outside of any image", ErrInvalid)
			}
			following := points[(i+1)%len(points)]
			cross(crossings, width, x, y, float64(following.GetX()), float64(following.GetY()))
		}
	}
	decoded := New(height, width)
	for row, columns := range crossings {
		slices.Sort(columns)
		for i := 0; i+1 < len(columns); i += 2 {
			for column := columns[i]; column < columns[i+1]; column++ {
				decoded.Pixels[row*width+column] = true
			}
		}
	}
	return decoded, nil
}

// cross notes where an edge crosses the centres of rows.
func cross(crossings [][]int, width int, x0, y0, x1, y1 float64) {
	if y0 > y1 {
		x0, y0, x1, y1 = x1, y1, x0, y0
	}
	first := max(0, int(math.Ceil(y0-0.5)))
	last := min(len(crossings), int(math.Ceil(y1-0.5)))
	for row := first; row < last; row++ {
		share := (float64(row) + 0.5 - y0) / (y1 - y0)
		column := int(math.Ceil(x0 + float64(share*(x1-x0)) - 0.5))
		crossings[row] = append(crossings[row], min(max(column, 0), width))
	}
}
