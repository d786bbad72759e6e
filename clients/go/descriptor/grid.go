package descriptor

import (
	"fmt"

	pb "github.com/text4seg/text4seg-serving/clients/go/gen/text4seg/v1"
	"github.com/text4seg/text4seg-serving/clients/go/mask"
)

// Grid holds one label per cell of an image.
type Grid struct {
	Rows, Columns int
	Labels        []string // the table that Cells refers to; the first label is "others"
	Cells         []int    // Rows * Columns indices into Labels, row by row from the top
}

// FromProto reads the grid that the services return with every descriptor. It fails when extent, label table and cells
// do not fit each other, or a label is none that a descriptor can hold.
func FromProto(message *pb.LabelGrid) (Grid, error) {
	rows, columns := int(message.GetRows()), int(message.GetColumns())
	if err := checkShape(rows, columns); err != nil {
		return Grid{}, err
	}
	labels := message.GetLabels()
	if len(labels) == 0 || labels[0] != Others || len(labels) > MaxCells+1 {
		return Grid{}, fmt.Errorf("descriptor: a table of %d labels whose first is not %q", len(labels), Others)
	}
	seen := map[string]bool{Others: true}
	for _, label := range labels[1:] {
		canonical, err := CheckLabel(label)
		if err != nil {
			return Grid{}, err
		}
		if canonical != label || seen[label] {
			return Grid{}, &LabelError{label, "is repeated, or not in canonical spelling"}
		}
		seen[label] = true
	}
	cells := make([]int, len(message.GetCells()))
	if len(cells) != rows*columns {
		return Grid{}, fmt.Errorf("%w: %d x %d with %d cells", errShape, rows, columns, len(cells))
	}
	for i, cell := range message.GetCells() {
		if cell < 0 || int(cell) >= len(labels) {
			return Grid{}, fmt.Errorf("descriptor: cell %d refers to label %d of %d", i, cell, len(labels))
		}
		cells[i] = int(cell)
	}
	return Grid{Rows: rows, Columns: columns, Labels: append([]string(nil), labels...), Cells: cells}, nil
}

// At returns the label of a cell, row 0 at the top.
func (g Grid) At(row, column int) string { return g.Labels[g.Cells[row*g.Columns+column]] }

// Mask returns the cells that carry a label, one pixel per cell; [mask.Mask.Resize] gives them the size of the image. A
// label that is not in the table has none.
func (g Grid) Mask(label string) mask.Mask {
	cells := mask.New(g.Rows, g.Columns)
	for i, cell := range g.Cells {
		cells.Pixels[i] = g.Labels[cell] == label
	}
	return cells
}
