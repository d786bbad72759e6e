package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	pb "github.com/text4seg/text4seg-serving/clients/go/gen/text4seg/v1"
	"github.com/text4seg/text4seg-serving/clients/go/overlay"
	"github.com/text4seg/text4seg-serving/clients/go/text4seg"
)

// question is what a run of segment or detect asks.
type question struct {
	path       string
	image      []byte
	query      text4seg.Query
	labels     []string // in the order of the query; none in open vocabulary
	options    []text4seg.AnswerOption
	output     string
	json       bool
	connection *connection
}

func (p program) segment(ctx context.Context, arguments []string) (int, error) {
	asked, err := p.readQuestion("segment", "Find the masks of what the phrases name.", "auto", arguments)
	if err != nil {
		return usage, err
	}
	client, err := asked.connection.open()
	if err != nil {
		return failure, err
	}
	defer client.Close()
	answer, err := client.Segment(ctx, text4seg.Bytes(asked.image), asked.query, asked.options...)
	if err != nil {
		return failure, at(asked.connection.address, err)
	}
	marks, err := overlay.Regions(answer.GetRegions())
	if err != nil {
		return failure, err
	}
	written := any(segmentJSON(asked.path, answer))
	return p.report(asked, marks, answer.GetWarnings(), written, segmentText(asked.path, answer))
}

func (p program) detect(ctx context.Context, arguments []string) (int, error) {
	asked, err := p.readQuestion("detect", "Find the boxes of what the phrases name (mask2box).", "none", arguments)
	if err != nil {
		return usage, err
	}
	client, err := asked.connection.open()
	if err != nil {
		return failure, err
	}
	defer client.Close()
	answer, err := client.Detect(ctx, text4seg.Bytes(asked.image), asked.query, asked.options...)
	if err != nil {
		return failure, at(asked.connection.address, err)
	}
	marks := overlay.Detections(answer.GetDetections())
	written := any(detectJSON(asked.path, answer))
	return p.report(asked, marks, answer.GetWarnings(), written, detectText(asked.path, answer))
}

// report writes an answer: the overlay first, so that nothing is printed of an answer that could not be drawn.
func (p program) report(
	asked question, marks []overlay.Mark, warnings []*pb.Warning, asJSON any, asText string,
) (int, error) {
	if asked.output != "" {
		if err := writeOverlay(asked.output, asked.image, marks, asked.labels); err != nil {
			return failure, err
		}
	}
	for _, warning := range warnings {
		fmt.Fprintf(p.errors, "t4s: %s: warning: %s\n", asked.path, warning.GetMessage())
	}
	if asked.json {
		if err := writeJSON(p.out, asJSON); err != nil {
			return failure, err
		}
	} else {
		fmt.Fprintln(p.out, asText)
	}
	if len(marks) == 0 {
		return nothingFound, nil
	}
	return found, nil
}

func (p program) readQuestion(name, description, refine string, arguments []string) (question, error) {
	form := fmt.Sprintf("t4s %s IMAGE (PHRASE... | --labels A,B,C | --open) [options]", name)
	options := newFlags(name, description, form)
	var labels, output string
	var open, asJSON, split, noCache bool
	var minScore float64
	var seed int64
	options.text(&labels, "labels", "", "A,B,C", "label every part of the image by one of these, or by none")
	options.toggle(&open, "open", "name what is there")
	options.toggle(&asJSON, "json", "one JSON object")
	options.output(&output, "overlay picture")
	options.checked("min-score", "S", "leave out what scores lower, 0 to 1", func(text string) (err error) {
		if minScore, err = strconv.ParseFloat(text, 64); err != nil || !(minScore >= 0 && minScore <= 1) {
			return fmt.Errorf("must be from 0 to 1")
		}
		return nil
	})
	options.toggle(&split, "split", "split regions into connected components (a heuristic)")
	options.toggle(&noCache, "no-cache", "compute anew, and store nothing")
	options.checked("seed", "N", "of everything random (default 0)", func(text string) (err error) {
		if seed, err = strconv.ParseInt(text, 10, 64); err != nil || seed < 0 {
			return fmt.Errorf("must be from 0 to 2**63 - 1")
		}
		return nil
	})
	mode := options.refine(refine)
	reach := options.connection(text4seg.DefaultAddress)
	rest, err := options.parse(p.out, arguments, 1, -1)
	if err != nil {
		return question{}, err
	}
	asked := question{path: rest[0], output: output, json: asJSON, connection: reach}
	phrases := rest[1:]
	if err := asked.setQuery(phrases, labels, options.given("labels"), open); err != nil {
		return question{}, err
	}
	if err := checkOutput(output, asked.path); err != nil {
		return question{}, err
	}
	asked.options = []text4seg.AnswerOption{
		text4seg.Refine(*mode), text4seg.MinScore(float32(minScore)), text4seg.Seed(seed),
	}
	if split {
		asked.options = append(asked.options, text4seg.SplitInstances())
	}
	if noCache {
		asked.options = append(asked.options, text4seg.Cache(pb.CacheMode_CACHE_MODE_BYPASS))
	}
	asked.image, err = os.ReadFile(asked.path)
	return asked, err
}

func (q *question) setQuery(phrases []string, labels string, hasLabels, open bool) error {
	switch {
	case open && hasLabels, len(phrases) > 0 && (open || hasLabels):
		return usageError("phrases, --labels and --open exclude each other")
	case open:
		q.query = text4seg.Open()
	case hasLabels:
		var names []string
		for _, name := range strings.Split(labels, ",") {
			if name = strings.TrimSpace(name); name != "" {
				names = append(names, name)
			}
		}
		if len(names) == 0 {
			return usageError("--labels needs at least one label")
		}
		q.query, q.labels = text4seg.Labels(names...), overlay.Labels(names...)
	case len(phrases) == 0:
		return usageError("say what to look for: a phrase, --labels or --open")
	default:
		for _, phrase := range phrases {
			if isImageFile(phrase) {
				return usageError(fmt.Sprintf("%s is a file, not a phrase; t4s takes one image at a time", phrase))
			}
		}
		q.query, q.labels = text4seg.Phrases(phrases...), overlay.Labels(phrases...)
	}
	return nil
}

var imageSuffixes = []string{".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}

func isImageFile(name string) bool {
	if !slices.Contains(imageSuffixes, strings.ToLower(filepath.Ext(name))) {
		return false
	}
	file, err := os.Stat(name)
	return err == nil && file.Mode().IsRegular()
}

func (f *flags) given(name string) bool {
	given := false
	f.set.Visit(func(option *flag.Flag) { given = given || option.Name == name })
	return given
}

var refineModes = map[string]pb.RefineMode{
	"none":     pb.RefineMode_REFINE_MODE_NONE,
	"auto":     pb.RefineMode_REFINE_MODE_AUTO,
	"required": pb.RefineMode_REFINE_MODE_REQUIRED,
}

func (f *flags) refine(standard string) *pb.RefineMode {
	mode := refineModes[standard]
	meaning := "none, auto or required: whether to sharpen masks (default " + standard + ")"
	f.checked("refine", "MODE", meaning, func(text string) error {
		chosen, known := refineModes[text]
		if !known {
			return fmt.Errorf("must be none, auto or required")
		}
		mode = chosen
		return nil
	})
	f.set.BoolFunc("no-refine", "", func(string) error {
		mode = pb.RefineMode_REFINE_MODE_NONE
		return nil
	})
	f.explain("--no-refine", "the same as --refine none")
	return &mode
}
