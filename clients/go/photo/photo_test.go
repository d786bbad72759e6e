package photo_test

import (
	"bytes"
	"errors"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/text4seg/text4seg-serving/clients/go/photo"
)

// The files that the Python tests read too. Decoders of JPEG round differently, by up to three levels; all others must
// give the very pixels.
func TestGoldenPhotographs(t *testing.T) {
	expected, err := filepath.Glob("../../../tests/golden/photos/*.expected.png")
	if err != nil || len(expected) == 0 {
		t.Fatalf("no golden photographs (%v)", err)
	}
	for _, path := range expected {
		source := strings.TrimSuffix(path, ".expected.png")
		t.Run(filepath.Base(source), func(t *testing.T) {
			got, err := photo.Decode(read(t, source))
			if err != nil {
				t.Fatal(err)
			}
			want, err := png.Decode(bytes.NewReader(read(t, path)))
			if err != nil {
				t.Fatal(err)
			}
			if got.Rect != want.Bounds() {
				t.Fatalf("it is %v, not %v", got.Rect, want.Bounds())
			}
			most := 0
			if filepath.Ext(source) == ".jpg" {
				most = 3
			}
			for y := range got.Rect.Dy() {
				for x := range got.Rect.Dx() {
					if a, b := got.RGBAAt(x, y), color.RGBAModel.Convert(want.At(x, y)).(color.RGBA); far(a, b) > most {
						t.Fatalf("pixel %d, %d is %v, not %v", x, y, a, b)
					}
				}
			}
		})
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func far(a, b color.RGBA) int {
	distance := func(a, b uint8) int { return max(int(a)-int(b), int(b)-int(a)) }
	return max(distance(a.R, b.R), distance(a.G, b.G), distance(a.B, b.B), distance(a.A, b.A))
}

func TestWhatIsNoImageIsAnError(t *testing.T) {
	cut := read(t, "../../../tests/golden/photos/orientation_6.jpg")
	var huge bytes.Buffer
	if err := png.Encode(&huge, image.NewGray(image.Rect(0, 0, 1, 1))); err != nil {
		t.Fatal(err)
	}
	header := huge.Bytes()
	copy(header[16:24], []byte{0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff})
	for name, file := range map[string][]byte{
		"nothing": nil, "text": []byte("no image"), "cut": cut[:len(cut)/2], "huge": header,
	} {
		if _, err := photo.Decode(file); !errors.Is(err, photo.ErrInvalid) {
			t.Errorf("%s: the error is %v", name, err)
		}
	}
}

// Whatever a file holds, reading it ends in an image or an error.
func FuzzDecode(f *testing.F) {
	files, err := filepath.Glob("../../../tests/golden/photos/*")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range files {
		file, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(file)
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		if header, _, err := image.DecodeConfig(bytes.NewReader(file)); err == nil && header.Width*header.Height > 1<<16 {
			return
		}
		if picture, err := photo.Decode(file); err == nil && !picture.Opaque() {
			t.Error("the picture is not opaque")
		}
	})
}
