package descriptor_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/text4seg/text4seg-serving/clients/go/descriptor"
	pb "github.com/text4seg/text4seg-serving/clients/go/gen/text4seg/v1"
)

// goldens reads the cases that the Python tests read too: one file each, below tests/golden.
func goldens[Case any](t *testing.T, folder string) map[string]Case {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("../../../tests/golden", folder, "*.json"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no golden %s (%v)", folder, err)
	}
	cases := map[string]Case{}
	for _, path := range paths {
		file, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var read Case
		if err := json.Unmarshal(file, &read); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		cases[strings.TrimSuffix(filepath.Base(path), ".json")] = read
	}
	return cases
}

type descriptorCase struct {
	Codec         descriptor.Codec
	Shape         [2]int
	Labels        []string
	Complete      bool
	Text          *string
	Answer        *string
	Table         []string
	Cells         []string
	Repairs       [][3]any
	UnknownLabels []string `json:"unknown_labels"`
	Truncated     bool
	Label         *string
	Canonical     *string
}

func (c descriptorCase) format() descriptor.Format {
	return descriptor.Format{
		Rows: c.Shape[0], Columns: c.Shape[1], Labels: c.Labels, Codec: c.Codec, Unfinished: !c.Complete,
	}
}

func (c descriptorCase) decode() (descriptor.Decoding, error) {
	if c.Answer != nil {
		return descriptor.DecodeAnswer(*c.Answer, c.format())
	}
	return descriptor.Decode(*c.Text, c.format())
}

func TestGoldenDescriptorsLeniently(t *testing.T) {
	for name, want := range goldens[descriptorCase](t, "descriptors") {
		if want.Cells == nil {
			continue
		}
		t.Run(name, func(t *testing.T) {
			got, err := want.decode()
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got.Grid.Labels, want.Table) {
				t.Errorf("table %q, not %q", got.Grid.Labels, want.Table)
			}
			for row, cells := range want.Cells {
				for column, digit := range cells {
					if label := got.Grid.At(row, column); label != want.Table[digit-'0'] {
						t.Errorf("cell %d, %d is %q, not %q", row, column, label, want.Table[digit-'0'])
					}
				}
			}
			repairs := [][3]any{}
			for _, repair := range got.Repairs {
				repairs = append(repairs, [3]any{string(repair.Kind), float64(repair.Row), float64(repair.Column)})
				if repair.Detail == "" {
					t.Errorf("%v has no detail", repair)
				}
			}
			if !reflect.DeepEqual(repairs, append([][3]any{}, want.Repairs...)) {
				t.Errorf("repairs %v, not %v", repairs, want.Repairs)
			}
			if !slices.Equal(got.UnknownLabels, want.UnknownLabels) {
				t.Errorf("unknown labels %q, not %q", got.UnknownLabels, want.UnknownLabels)
			}
			if got.Truncated != want.Truncated {
				t.Errorf("truncated: %v", got.Truncated)
			}
		})
	}
}

func TestGoldenDescriptorsStrictly(t *testing.T) {
	for name, want := range goldens[descriptorCase](t, "descriptors") {
		if want.Text == nil || !want.Complete {
			continue
		}
		t.Run(name, func(t *testing.T) {
			grid, err := descriptor.DecodeStrict(*want.Text, want.format())
			var malformed *descriptor.MalformedError
			switch {
			case len(want.Repairs) == 0 && err != nil:
				t.Fatal(err)
			case len(want.Repairs) == 0:
				if text := descriptor.Encode(grid, want.Codec); text != *want.Text {
					t.Errorf("written again it is %q", text)
				}
			case !errors.As(err, &malformed):
				t.Errorf("the error is %v", err)
			case float64(malformed.Row) != want.Repairs[0][1] || float64(malformed.Column) != want.Repairs[0][2]:
				t.Errorf("%v, not at %v", malformed, want.Repairs[0])
			}
		})
	}
}

func TestGoldenLabels(t *testing.T) {
	for name, want := range goldens[descriptorCase](t, "descriptors") {
		if want.Label == nil {
			continue
		}
		t.Run(name, func(t *testing.T) {
			canonical, err := descriptor.CheckLabel(*want.Label)
			var refused *descriptor.LabelError
			switch {
			case want.Canonical == nil && !errors.As(err, &refused):
				t.Errorf("%q was taken as %q", *want.Label, canonical)
			case want.Canonical != nil && (err != nil || canonical != *want.Canonical):
				t.Errorf("%q, %v, not %q", canonical, err, *want.Canonical)
			}
		})
	}
}

type gridCase struct {
	Shape  [2]int32
	Labels []string
	Cells  []int32
	Size   [2]int
	Masks  map[string][]string
}

func TestGoldenGrids(t *testing.T) {
	for name, want := range goldens[gridCase](t, "grids") {
		t.Run(name, func(t *testing.T) {
			grid, err := descriptor.FromProto(&pb.LabelGrid{
				Rows: want.Shape[0], Columns: want.Shape[1], Labels: want.Labels, Cells: want.Cells,
			})
			if want.Masks == nil {
				if err == nil {
					t.Errorf("it was taken: %v", grid)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for label, rows := range want.Masks {
				mask := grid.Mask(label).Resize(want.Size[0], want.Size[1])
				for row, pixels := range rows {
					for column, digit := range pixels {
						if mask.At(row, column) != (digit == '1') {
							t.Errorf("%s: pixel %d, %d is %v", label, row, column, mask.At(row, column))
						}
					}
				}
			}
		})
	}
}

func TestImpossibleFormatsAreErrors(t *testing.T) {
	for name, format := range map[string]descriptor.Format{
		"no cells":     {Rows: 0, Columns: 4},
		"too many":     {Rows: 1 << 10, Columns: 1 << 10},
		"overflow":     {Rows: 1 << 32, Columns: 1 << 32},
		"other codec":  {Rows: 1, Columns: 1, Codec: "rle"},
		"refused name": {Rows: 1, Columns: 1, Labels: []string{"a|b"}},
	} {
		if _, err := descriptor.Decode("others *1\n", format); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// Any text gives a grid, and what is well-formed is written again as it was.
func FuzzDecode(f *testing.F) {
	f.Add("others *1| dog *2\n others *3\n", byte(0))
	f.Add("<seg>dog *99999999999*| | \n\n Ⅷ *٣\n", byte(1))
	f.Add("others| dog| dog\n others| others| dog", byte(2))
	codecs := []descriptor.Codec{descriptor.RRLE, descriptor.IRLE, descriptor.Full}
	f.Fuzz(func(t *testing.T, text string, codec byte) {
		for _, labels := range [][]string{nil, {"dog", "white horse"}} {
			format := descriptor.Format{Rows: 2, Columns: 3, Labels: labels, Codec: codecs[int(codec)%3]}
			decoding, err := descriptor.Decode(text, format)
			if err != nil || len(decoding.Grid.Cells) != 6 {
				t.Fatalf("%v, %v", decoding, err)
			}
			if len(decoding.Repairs) == 0 && descriptor.Encode(decoding.Grid, format.Codec) != text {
				t.Errorf("%q is no repair of %q", descriptor.Encode(decoding.Grid, format.Codec), text)
			}
		}
	})
}
