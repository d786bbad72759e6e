package main

import (
	"bytes"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func ran(t *testing.T, arguments ...string) (code int, out, errors string) {
	t.Helper()
	var written, complaints bytes.Buffer
	code = program{&written, &complaints}.run(t.Context(), arguments)
	return code, written.String(), complaints.String()
}

func pictureFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "photo.png")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := png.Encode(file, image.NewGray(image.Rect(0, 0, 4, 3))); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestWrongUsage(t *testing.T) {
	photo := pictureFile(t)
	folder := filepath.Dir(photo)
	for name, line := range map[string]struct {
		arguments []string
		complaint string
	}{
		"no command":      {nil, "usage: t4s COMMAND"},
		"unknown command": {[]string{"segmnet"}, `no command "segmnet"`},
		"no image":        {[]string{"segment"}, "usage: t4s segment IMAGE"},
		"no query":        {[]string{"segment", photo}, "say what to look for"},
		"two queries":     {[]string{"segment", photo, "cat", "--open"}, "exclude each other"},
		"no labels":       {[]string{"segment", photo, "--labels", " , "}, "at least one label"},
		"two images":      {[]string{"segment", photo, photo}, "is a file, not a phrase"},
		"unknown option":  {[]string{"detect", photo, "cat", "--colour"}, "-colour"},
		"score":           {[]string{"detect", photo, "cat", "--min-score", "2"}, "from 0 to 1"},
		"refine":          {[]string{"segment", photo, "cat", "--refine", "maybe"}, "none, auto or required"},
		"seed":            {[]string{"segment", photo, "cat", "--seed", "-1"}, "from 0 to"},
		"timeout":         {[]string{"segment", photo, "cat", "--timeout", "0"}, "more than 0"},
		"suffix":          {[]string{"segment", photo, "cat", "-o", "out.txt"}, "picture format"},
		"folder":          {[]string{"segment", photo, "cat", "-o", folder}, "suffix must name a picture format"},
		"overwriting":     {[]string{"segment", photo, "cat", "-o", photo}, "would overwrite"},
		"half a pair":     {[]string{"segment", photo, "cat", "--tls-key", photo}, "belong together"},
		"chat":            {[]string{"chat", photo}, "usage: t4s chat IMAGE MESSAGE"},
		"tokens":          {[]string{"chat", photo, "hello", "--max-tokens", "0"}, "at least 1"},
		"version":         {[]string{"version", "now"}, "usage: t4s version"},
	} {
		code, out, complaints := ran(t, line.arguments...)
		if code != usage || out != "" || !strings.Contains(complaints, line.complaint) {
			t.Errorf("%s: %d, %q, %q", name, code, out, complaints)
		}
	}
}

func TestErrorsAreOneClearLine(t *testing.T) {
	photo := pictureFile(t)
	nowhere := []string{"--address", "127.0.0.1:1"}
	for name, line := range map[string]struct {
		arguments []string
		complaint string
	}{
		"missing file":   {[]string{"segment", "no/such.jpg", "cat"}, "no/such.jpg: no such file"},
		"a folder":       {[]string{"segment", filepath.Dir(photo), "cat"}, "is a directory"},
		"missing key":    {[]string{"segment", photo, "cat", "--api-key-file", "no/key"}, "no/key: no such file"},
		"no certificate": {[]string{"segment", photo, "cat", "--tls-ca", photo}, "holds no certificate"},
		"segment":        {append([]string{"segment", photo, "cat"}, nowhere...), "no server answers at 127.0.0.1:1"},
		"detect":         {append([]string{"detect", photo, "cat"}, nowhere...), "no server answers at 127.0.0.1:1"},
		"chat":           {append([]string{"chat", photo, "hello"}, nowhere...), "no server answers at 127.0.0.1:1"},
		"version":        {append([]string{"version"}, nowhere...), "no server answers at 127.0.0.1:1"},
	} {
		code, _, complaints := ran(t, line.arguments...)
		if code != failure || !strings.HasPrefix(complaints, "t4s: ") || strings.Count(complaints, "\n") != 1 ||
			!strings.Contains(complaints, line.complaint) {
			t.Errorf("%s: %d, %q", name, code, complaints)
		}
	}
}

func TestHelp(t *testing.T) {
	for _, arguments := range [][]string{
		{"help"}, {"--help"}, {"segment", "--help"}, {"detect", "-h"}, {"chat", "--help"}, {"version", "--help"},
	} {
		code, out, complaints := ran(t, arguments...)
		if code != found || !strings.Contains(out, "usage: t4s") || complaints != "" {
			t.Errorf("%v: %d, %q, %q", arguments, code, out, complaints)
		}
	}
	if code, out, _ := ran(t, "--version"); code != found || !strings.HasPrefix(out, "t4s ") {
		t.Errorf("%d, %q", code, out)
	}
}

func TestWhatFollowsTwoDashesIsNoOption(t *testing.T) {
	options := newFlags("segment", "", "")
	rest, err := options.parse(&bytes.Buffer{}, []string{"photo.jpg", "--", "--open", "-o"}, 1, -1)
	if err != nil || strings.Join(rest, " ") != "photo.jpg --open -o" {
		t.Errorf("%v, %v", rest, err)
	}
}

func TestBlocksAreLeftOutOfTextThatComesInPieces(t *testing.T) {
	answer := "Sure:\n<seg>others *2\n cat *2\n</seg> and <segue> <seg>cat *1</seg>. a < b"
	for size := 1; size < len(answer); size++ {
		var blocks blockFilter
		seen := ""
		for rest := answer; rest != ""; rest = rest[min(size, len(rest)):] {
			seen += blocks.feed(rest[:min(size, len(rest))])
		}
		if seen += blocks.finish(); seen != "Sure:\n and <segue> . a < b" {
			t.Fatalf("in pieces of %d: %q", size, seen)
		}
	}
}
