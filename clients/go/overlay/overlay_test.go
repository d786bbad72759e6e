package overlay_test

import (
	"encoding/json"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	pb "github.com/text4seg/text4seg-serving/clients/go/gen/text4seg/v1"
	"github.com/text4seg/text4seg-serving/clients/go/mask"
	"github.com/text4seg/text4seg-serving/clients/go/overlay"
)

type golden struct {
	Size   [2]int
	Labels []string
	Marks  []struct {
		Label  string
		Score  float32
		Box    [4]int
		Counts *string
	}
}

func (g golden) photograph() *image.RGBA {
	height, width := g.Size[0], g.Size[1]
	drawn := image.NewRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			drawn.SetRGBA(x, y, color.RGBA{uint8(x * 255 / width), uint8(y * 255 / height), uint8((x + y) * 3), 255})
		}
	}
	return drawn
}

func (g golden) marks(t *testing.T) []overlay.Mark {
	t.Helper()
	var marks []overlay.Mark
	for _, one := range g.Marks {
		box := image.Rectangle{image.Pt(one.Box[0], one.Box[1]), image.Pt(one.Box[2], one.Box[3])}
		mark := overlay.Mark{Label: one.Label, Score: one.Score, Box: box}
		if one.Counts != nil {
			size := &pb.Size{Height: int32(g.Size[0]), Width: int32(g.Size[1])}
			pixels, err := mask.DecodeRLE(&pb.Rle{Size: size, Counts: *one.Counts})
			if err != nil {
				t.Fatal(err)
			}
			mark.Mask = &pixels
		}
		marks = append(marks, mark)
	}
	return marks
}

// The pictures that the Python client draws of the same marks: not a pixel may differ.
func TestGoldenOverlays(t *testing.T) {
	paths, err := filepath.Glob("../../../tests/golden/overlays/*.json")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no golden overlays (%v)", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".json"), func(t *testing.T) {
			file, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var read golden
			if err := json.Unmarshal(file, &read); err != nil {
				t.Fatal(err)
			}
			got, err := overlay.Draw(read.photograph(), read.marks(t), read.Labels)
			if err != nil {
				t.Fatal(err)
			}
			picture, err := os.Open(strings.TrimSuffix(path, ".json") + ".png")
			if err != nil {
				t.Fatal(err)
			}
			defer picture.Close()
			want, err := png.Decode(picture)
			if err != nil {
				t.Fatal(err)
			}
			wrong := 0
			for y := range read.Size[0] {
				for x := range read.Size[1] {
					if a, b := got.RGBAAt(x, y), color.RGBAModel.Convert(want.At(x, y)); a != b {
						if wrong++; wrong < 4 {
							t.Errorf("pixel %d, %d is %v, not %v", x, y, a, b)
						}
					}
				}
			}
			if wrong > 0 {
				t.Errorf("%d pixels differ", wrong)
			}
		})
	}
}

func TestThePhotographStaysAsItWas(t *testing.T) {
	read := golden{Size: [2]int{40, 50}}
	photograph := read.photograph()
	marks := []overlay.Mark{{Label: "dog", Box: image.Rect(5, 5, 30, 30)}}
	if _, err := overlay.Draw(photograph, marks, nil); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(photograph.Pix, read.photograph().Pix) {
		t.Error("it was drawn on")
	}
}

func TestAMaskOfAnotherSizeIsAnError(t *testing.T) {
	pixels := mask.New(10, 10)
	marks := []overlay.Mark{{Label: "dog", Mask: &pixels}}
	if _, err := overlay.Draw(image.NewRGBA(image.Rect(0, 0, 10, 11)), marks, nil); err == nil {
		t.Error("no error")
	}
}

func TestARegionWhoseMaskCannotBeReadIsAnError(t *testing.T) {
	broken := &pb.Region{Label: "dog", Mask: &pb.Mask{Form: &pb.Mask_Rle{Rle: &pb.Rle{Counts: "?"}}}}
	if _, err := overlay.Regions([]*pb.Region{broken}); err == nil || !strings.Contains(err.Error(), "dog") {
		t.Errorf("the error is %v", err)
	}
	marks, err := overlay.Regions([]*pb.Region{{Label: "cat", Score: 0.5, Box: &pb.Box{X1: 3, Y1: 4}}})
	if err != nil || len(marks) != 1 || marks[0].Mask != nil || marks[0].Box != image.Rect(0, 0, 3, 4) {
		t.Errorf("%v, %v", marks, err)
	}
}

func TestNeighbouringLabelsHaveColoursOfTheirOwn(t *testing.T) {
	seen := map[color.RGBA]bool{}
	for index := range 36 {
		if seen[overlay.ColorOf(index)] {
			t.Errorf("colour %d is there already", index)
		}
		seen[overlay.ColorOf(index)] = true
	}
	if overlay.ColorOf(36) != overlay.ColorOf(0) {
		t.Error("the colours do not start over")
	}
}

func TestLabelsAreSpelledAsAnswersSpellThem(t *testing.T) {
	got := overlay.Labels("  The  DOG ", "ΟΔΟΣ", "GRÖSSE")
	if want := []string{"the dog", "οδος", "grösse"}; !slices.Equal(got, want) {
		t.Errorf("%q, not %q", got, want)
	}
}
