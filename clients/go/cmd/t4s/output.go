package main

import (
	"encoding/json"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/image/bmp"
	"golang.org/x/image/tiff"

	"github.com/text4seg/text4seg-serving/clients/go/overlay"
	"github.com/text4seg/text4seg-serving/clients/go/photo"
)

var encoders = map[string]func(io.Writer, image.Image) error{
	".png":  png.Encode,
	".bmp":  bmp.Encode,
	".jpg":  encodeJPEG,
	".jpeg": encodeJPEG,
	".tif":  encodeTIFF,
	".tiff": encodeTIFF,
}

func encodeJPEG(file io.Writer, picture image.Image) error {
	return jpeg.Encode(file, picture, &jpeg.Options{Quality: 90})
}

func encodeTIFF(file io.Writer, picture image.Image) error { return tiff.Encode(file, picture, nil) }

// checkOutput says what is wrong with the place of an overlay, before any work is done.
func checkOutput(output, input string) error {
	if output == "" {
		return nil
	}
	if encoders[strings.ToLower(filepath.Ext(output))] == nil {
		return usageError(fmt.Sprintf("-o %s: the suffix must name a picture format, such as .png", output))
	}
	target, err := os.Stat(output)
	if err != nil {
		return nil // it will be made
	}
	if target.IsDir() {
		return usageError(fmt.Sprintf("-o %s is a folder", output))
	}
	if source, err := os.Stat(input); err == nil && os.SameFile(source, target) {
		return usageError(fmt.Sprintf("-o would overwrite %s; choose another place for the result", input))
	}
	return nil
}

// writeOverlay draws what was found over the image; the file appears complete or not at all.
func writeOverlay(output string, file []byte, marks []overlay.Mark, labels []string) error {
	photograph, err := photo.Decode(file)
	if err != nil {
		return err
	}
	picture, err := overlay.Draw(photograph, marks, labels)
	if err != nil {
		return err
	}
	folder := filepath.Dir(output)
	if err := os.MkdirAll(folder, 0o777); err != nil {
		return err
	}
	temporary, err := os.MkdirTemp(folder, ".t4s-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temporary)
	unfinished := filepath.Join(temporary, filepath.Base(output))
	if err := encodeFile(unfinished, picture); err != nil {
		return err
	}
	return os.Rename(unfinished, output)
}

func encodeFile(path string, picture image.Image) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := encoders[strings.ToLower(filepath.Ext(path))](file, picture); err != nil {
		file.Close()
		return err
	}
	return file.Close()
}

func writeJSON(out io.Writer, value any) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}
