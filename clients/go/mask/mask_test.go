package mask_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	pb "github.com/text4seg/text4seg-serving/clients/go/gen/text4seg/v1"
	"github.com/text4seg/text4seg-serving/clients/go/mask"
)

func drawn(rows ...string) mask.Mask {
	drawn := mask.New(len(rows), len(rows[0]))
	for i, digit := range strings.Join(rows, "") {
		drawn.Pixels[i] = digit == '1'
	}
	return drawn
}

func same(a, b mask.Mask) bool {
	return a.Height == b.Height && a.Width == b.Width && slices.Equal(a.Pixels, b.Pixels)
}

// The cases that the Python tests read too.
func TestGoldenMasks(t *testing.T) {
	paths, err := filepath.Glob("../../../tests/golden/masks/*.json")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no golden masks (%v)", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".json"), func(t *testing.T) {
			file, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var want struct {
				Size   [2]int32
				Counts string
				Rows   []string
			}
			if err := json.Unmarshal(file, &want); err != nil {
				t.Fatal(err)
			}
			size := &pb.Size{Height: want.Size[0], Width: want.Size[1]}
			got, err := mask.DecodeRLE(&pb.Rle{Size: size, Counts: want.Counts})
			if want.Rows == nil {
				if !errors.Is(err, mask.ErrInvalid) {
					t.Errorf("the error is %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !same(got, drawn(want.Rows...)) {
				t.Errorf("other pixels: %v", got)
			}
			if counts := mask.EncodeRLE(got).GetCounts(); counts != want.Counts {
				t.Errorf("written again it is %q", counts)
			}
		})
	}
}

func FuzzDecodeRLE(f *testing.F) {
	f.Add("05", int32(2), int32(2))
	f.Add("PPo1", int32(40), int32(50))
	f.Fuzz(func(t *testing.T, counts string, height, width int32) {
		if int64(height)*int64(width) > 1<<16 {
			return
		}
		decoded, err := mask.DecodeRLE(&pb.Rle{Size: &pb.Size{Height: height, Width: width}, Counts: counts})
		if err != nil {
			if !errors.Is(err, mask.ErrInvalid) {
				t.Errorf("the error is %v", err)
			}
			return
		}
		again, err := mask.DecodeRLE(mask.EncodeRLE(decoded))
		if err != nil || !same(again, decoded) {
			t.Errorf("written and read again it is another mask (%v)", err)
		}
	})
}

func TestEveryFormOfAMaskIsRead(t *testing.T) {
	want := drawn("0110", "0111", "0000")
	var file bytes.Buffer
	if err := png.Encode(&file, want.Image()); err != nil {
		t.Fatal(err)
	}
	size := &pb.Size{Height: 3, Width: 4}
	corners := []*pb.Point{{X: 1, Y: 0}, {X: 3, Y: 0}, {X: 3, Y: 1}, {X: 4, Y: 1}, {X: 4, Y: 2}, {X: 1, Y: 2}}
	cells := make([]byte, len(want.Pixels))
	for i, inside := range want.Pixels {
		if inside {
			cells[i] = 255
		}
	}
	for name, message := range map[string]*pb.Mask{
		"rle":     {Form: &pb.Mask_Rle{Rle: mask.EncodeRLE(want)}},
		"png":     {Form: &pb.Mask_Png{Png: file.Bytes()}},
		"grid":    {Form: &pb.Mask_Grid{Grid: &pb.GridMask{Rows: 3, Columns: 4, Cells: cells}}},
		"polygon": {Form: &pb.Mask_Polygon{Polygon: &pb.Polygon{Size: size, Rings: []*pb.Ring{{Points: corners}}}}},
	} {
		got, err := mask.FromProto(message)
		if err != nil || !same(got, want) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func TestARingInsideAnotherIsAHole(t *testing.T) {
	outer := []*pb.Point{{X: 0, Y: 0}, {X: 4, Y: 0}, {X: 4, Y: 4}, {X: 0, Y: 4}}
	hole := []*pb.Point{{X: 1, Y: 1}, {X: 1, Y: 3}, {X: 3, Y: 3}, {X: 3, Y: 1}}
	polygon := &pb.Polygon{
		Size: &pb.Size{Height: 4, Width: 4}, Rings: []*pb.Ring{{Points: outer}, {Points: hole}},
	}
	got, err := mask.FromProto(&pb.Mask{Form: &pb.Mask_Polygon{Polygon: polygon}})
	if err != nil || !same(got, drawn("1111", "1001", "1001", "1111")) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestWhatIsNoMaskIsAnError(t *testing.T) {
	size := &pb.Size{Height: 2, Width: 2}
	line := []*pb.Point{{X: 0, Y: 0}, {X: 2, Y: 2}}
	far := []*pb.Point{{X: 0, Y: 0}, {X: 1e9, Y: 0}, {X: 0, Y: 1e9}}
	for name, message := range map[string]*pb.Mask{
		"nothing":        nil,
		"no form":        {},
		"no file":        {Form: &pb.Mask_Png{Png: []byte("no file")}},
		"cells missing":  {Form: &pb.Mask_Grid{Grid: &pb.GridMask{Rows: 3, Columns: 4, Cells: []byte{255}}}},
		"no cells":       {Form: &pb.Mask_Grid{Grid: &pb.GridMask{}}},
		"no size":        {Form: &pb.Mask_Polygon{Polygon: &pb.Polygon{}}},
		"two corners":    {Form: &pb.Mask_Polygon{Polygon: &pb.Polygon{Size: size, Rings: []*pb.Ring{{Points: line}}}}},
		"far outside":    {Form: &pb.Mask_Polygon{Polygon: &pb.Polygon{Size: size, Rings: []*pb.Ring{{Points: far}}}}},
		"run lengths":    {Form: &pb.Mask_Rle{Rle: &pb.Rle{Size: size, Counts: "?!"}}},
		"no run lengths": {Form: &pb.Mask_Rle{}},
	} {
		if _, err := mask.FromProto(message); !errors.Is(err, mask.ErrInvalid) {
			t.Errorf("%s: the error is %v", name, err)
		}
	}
}

func TestAreaAndBox(t *testing.T) {
	region := drawn("00000", "00110", "01100", "00000")
	if region.Area() != 4 || region.Box() != image.Rect(1, 1, 4, 3) {
		t.Errorf("%d, %v", region.Area(), region.Box())
	}
	if empty := mask.New(3, 3); empty.Area() != 0 || !empty.Box().Empty() {
		t.Errorf("%d, %v", empty.Area(), empty.Box())
	}
}
