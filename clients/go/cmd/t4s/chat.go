package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	pb "github.com/text4seg/text4seg-serving/clients/go/gen/text4seg/v1"
	"github.com/text4seg/text4seg-serving/clients/go/overlay"
	"github.com/text4seg/text4seg-serving/clients/go/text4seg"
)

type chatJSON struct {
	Image        string       `json:"image"`
	Answer       string       `json:"answer"`
	FinishReason string       `json:"finish_reason"`
	Regions      []regionJSON `json:"regions"`
	Timing       timingJSON   `json:"timing_ms"`
	Versions     versionsJSON `json:"versions"`
}

func (p program) chat(ctx context.Context, arguments []string) (int, error) {
	options := newFlags("chat", "Ask about an image.", "t4s chat IMAGE MESSAGE [options]")
	var asJSON, raw bool
	var output string
	var maxTokens int32
	options.toggle(&asJSON, "json", "the answer as one JSON object")
	options.toggle(&raw, "raw", "print descriptor blocks as the model writes them")
	options.output(&output, "overlay picture of the regions in the answer")
	options.checked("max-tokens", "N", "most tokens of the answer", func(text string) error {
		tokens, err := strconv.ParseInt(text, 10, 32)
		if err != nil || tokens < 1 {
			return errors.New("must be at least 1")
		}
		maxTokens = int32(tokens)
		return nil
	})
	mode := options.refine("none")
	reach := options.connection(text4seg.DefaultAddress)
	rest, err := options.parse(p.out, arguments, 2, 2)
	if err != nil {
		return usage, err
	}
	if err := checkOutput(output, rest[0]); err != nil {
		return usage, err
	}
	image, err := os.ReadFile(rest[0])
	if err != nil {
		return failure, err
	}
	client, err := reach.open()
	if err != nil {
		return failure, err
	}
	defer client.Close()

	var regions []*pb.Region
	var finish *pb.ChatFinish
	var blocks blockFilter
	turns := []*pb.Turn{text4seg.User(rest[1])}
	answer := client.Chat(ctx, text4seg.Bytes(image), turns, text4seg.Refine(*mode), text4seg.MaxTokens(maxTokens))
	for message, err := range answer {
		if err != nil {
			return failure, at(reach.address, err)
		}
		switch event := message.GetEvent().(type) {
		case *pb.ChatResponse_Text:
			switch {
			case asJSON:
			case raw:
				fmt.Fprint(p.out, event.Text)
			default:
				fmt.Fprint(p.out, blocks.feed(event.Text))
			}
		case *pb.ChatResponse_Regions:
			regions = append(regions, event.Regions.GetRegions()...)
		case *pb.ChatResponse_Finish:
			finish = event.Finish
		}
	}
	if finish == nil {
		return failure, errors.New("the answer ended without its last piece")
	}
	if asJSON {
		reason := strings.ToLower(strings.TrimPrefix(finish.GetReason().String(), "FINISH_REASON_"))
		err = writeJSON(p.out, chatJSON{
			rest[0], finish.GetTurn().GetText(), reason, regionsJSON(regions),
			timing(finish.GetTiming()), versions(finish.GetVersions()),
		})
		if err != nil {
			return failure, err
		}
	} else {
		fmt.Fprintln(p.out, blocks.finish())
		for _, line := range regionTable(regions) {
			fmt.Fprintln(p.out, " ", line)
		}
	}
	for _, warning := range finish.GetWarnings() {
		fmt.Fprintf(p.errors, "t4s: warning: %s\n", warning.GetMessage())
	}
	if output == "" || len(regions) == 0 {
		return found, nil
	}
	marks, err := overlay.Regions(regions)
	if err != nil {
		return failure, err
	}
	return found, writeOverlay(output, image, marks, nil)
}

// blockFilter leaves descriptor blocks, many lines that only a decoder reads, out of text that arrives in pieces.
type blockFilter struct {
	held   string
	inside bool
}

func (b *blockFilter) tag() string {
	if b.inside {
		return "</seg>"
	}
	return "<seg>"
}

// feed returns what a person should see of everything up to now and not returned yet.
func (b *blockFilter) feed(text string) string {
	b.held += text
	var seen strings.Builder
	for {
		before, after, whole := strings.Cut(b.held, b.tag())
		if !whole {
			break
		}
		if !b.inside {
			seen.WriteString(before)
		}
		b.held, b.inside = after, !b.inside
	}
	keep := 0 // the beginning of a tag may be the end of a piece
	for size := len(b.tag()) - 1; size > 0 && keep == 0; size-- {
		if strings.HasSuffix(b.held, b.tag()[:size]) {
			keep = size
		}
	}
	ready := b.held[:len(b.held)-keep]
	b.held = b.held[len(b.held)-keep:]
	if !b.inside {
		seen.WriteString(ready)
	}
	return seen.String()
}

// finish returns what was held back because a tag might have followed.
func (b *blockFilter) finish() string {
	if b.inside {
		return ""
	}
	return b.held
}
