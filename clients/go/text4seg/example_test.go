package text4seg_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"strings"
	"testing"
	"time"

	pb "github.com/text4seg/text4seg-serving/clients/go/gen/text4seg/v1"
	"github.com/text4seg/text4seg-serving/clients/go/mask"
	"github.com/text4seg/text4seg-serving/clients/go/overlay"
	"github.com/text4seg/text4seg-serving/clients/go/photo"
	"github.com/text4seg/text4seg-serving/clients/go/text4seg"
)

// The examples run against real services with the bundled model. `make test` starts them; by hand it is
// `make serve`, and then `T4S_TEST_ADDRESS=127.0.0.1:50051 go test ./...`.
var address = os.Getenv("T4S_TEST_ADDRESS")

func TestMain(m *testing.M) {
	flag.Parse()
	if address == "" {
		fmt.Fprintln(os.Stderr, "NOT RUN: the examples, which need services: set T4S_TEST_ADDRESS to theirs")
		if err := flag.Set("test.skip", "^Example"); err != nil {
			log.Fatal(err)
		}
	}
	os.Exit(m.Run())
}

func connect() *text4seg.Client {
	client, err := text4seg.NewClient(address)
	if err != nil {
		log.Fatal(err)
	}
	return client
}

func ExampleClient_Segment() {
	client, err := text4seg.NewClient(address)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()

	answer, err := client.Segment(ctx, text4seg.File("testdata/cat.jpg"), text4seg.Phrases("the cat"))
	if err != nil {
		log.Fatal(err)
	}
	for _, region := range answer.GetRegions() { // none, where the model does not see the cat
		pixels, err := mask.FromProto(region.GetMask())
		if err != nil {
			log.Fatal(err)
		}
		log.Println(region.GetLabel(), region.GetScore(), region.GetBox(), pixels.Area())
	}
	fmt.Println(answer.GetImageSize().GetHeight(), answer.GetImageSize().GetWidth())
	// Output: 300 451
}

func ExampleClient_Segment_overlay() {
	client := connect()
	defer client.Close()
	file, err := os.ReadFile("testdata/cat.jpg")
	if err != nil {
		log.Fatal(err)
	}
	answer, err := client.Segment(context.Background(), text4seg.Bytes(file), text4seg.Phrases("the cat"),
		text4seg.Refine(pb.RefineMode_REFINE_MODE_NONE), text4seg.MinScore(0.1))
	if err != nil {
		log.Fatal(err)
	}
	photograph, err := photo.Decode(file)
	if err != nil {
		log.Fatal(err)
	}
	marks, err := overlay.Regions(answer.GetRegions())
	if err != nil {
		log.Fatal(err)
	}
	picture, err := overlay.Draw(photograph, marks, overlay.Labels("the cat"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(picture.Rect.Size())
	// Output: (451,300)
}

func ExampleClient_StreamSegment() {
	client := connect()
	defer client.Close()
	rows := 0
	stream := client.StreamSegment(context.Background(), text4seg.File("testdata/cat.jpg"), text4seg.Phrases("the cat"))
	for message, err := range stream {
		if err != nil {
			log.Fatal(err)
		}
		switch event := message.GetEvent().(type) {
		case *pb.StreamSegmentResponse_Row: // as soon as the model has written it
			rows++
		case *pb.StreamSegmentResponse_Coarse: // all regions, not refined yet
			log.Println(len(event.Coarse.GetRegions()), "regions")
		case *pb.StreamSegmentResponse_Answer: // the same as Segment returns
			grid := event.Answer.GetDescriptors()[0].GetGrid()
			fmt.Println(rows == int(grid.GetRows()))
		}
	}
	// Output: true
}

func ExampleClient_Detect() {
	client := connect()
	defer client.Close()
	answer, err := client.Detect(context.Background(), text4seg.File("testdata/cat.jpg"), text4seg.Phrases("the cat"))
	if err != nil {
		log.Fatal(err)
	}
	for _, found := range answer.GetDetections() {
		log.Println(found.GetLabel(), found.GetScore(), found.GetBox())
	}
	fmt.Println(answer.GetImageSize().GetHeight(), answer.GetImageSize().GetWidth())
	// Output: 300 451
}

func ExampleClient_Chat() {
	client := connect()
	defer client.Close()
	image := text4seg.File("testdata/cat.jpg")
	turns := []*pb.Turn{text4seg.User("What does this image show?")}
	for message, err := range client.Chat(context.Background(), image, turns) {
		if err != nil {
			log.Fatal(err)
		}
		switch event := message.GetEvent().(type) {
		case *pb.ChatResponse_Text: // show event.Text as it comes
		case *pb.ChatResponse_Regions: // of a descriptor block that has just been completed
		case *pb.ChatResponse_Finish:
			turns = append(turns, event.Finish.GetTurn(), text4seg.User("Please segment only the cat in the image."))
		}
	}
	fmt.Println(turns[1].GetRole(), turns[1].GetText() != "")
	// Output: ROLE_ASSISTANT true
}

func ExampleClient_PutImage() {
	client := connect()
	defer client.Close()
	ctx := context.Background()
	stored, err := client.PutImage(ctx, text4seg.File("testdata/cat.jpg"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(strings.HasPrefix(stored.GetId(), "sha256-"), stored.GetSize().GetHeight(), stored.GetSize().GetWidth())
	if _, err = client.Detect(ctx, text4seg.Stored(stored.GetId()), text4seg.Phrases("the cat")); err != nil {
		log.Fatal(err)
	}
	// Output: true 300 451
}

func ExampleClient_SegmentFrames() {
	client := connect()
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	file, err := os.ReadFile("testdata/cat.jpg")
	if err != nil {
		log.Fatal(err)
	}
	frames := make(chan *pb.Frame)
	go func() { // a camera
		defer close(frames)
		for sequence := range int64(3) {
			frame := &pb.Frame{Sequence: sequence, Image: &pb.Image{Source: &pb.Image_Content{Content: file}}}
			select {
			case frames <- frame:
			case <-ctx.Done(): // nobody wants more
				return
			}
		}
	}()
	for answer, err := range client.SegmentFrames(ctx, text4seg.Phrases("the cat"), frames) {
		if errors.Is(err, text4seg.ErrFeatureUnimplemented) {
			log.Println("not part of this server yet")
		} else if err != nil {
			log.Fatal(err)
		} else {
			log.Println(answer.GetSequence(), len(answer.GetAnswer().GetRegions()), answer.GetDropped())
		}
	}
	fmt.Println("the stream has ended")
	// Output: the stream has ended
}

func ExampleClient_ModelInfo() {
	client := connect()
	defer client.Close()
	info, err := client.ModelInfo(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	model := info.GetGenerator()
	log.Printf("a grid of %dx%d cells in %s", model.GetGridRows(), model.GetGridColumns(), model.GetCodec())
	fmt.Println(info.GetVersions().GetModel() != "")
	// Output: true
}

func ExampleError() {
	client := connect()
	defer client.Close()
	_, err := client.Segment(context.Background(), text4seg.Bytes([]byte("no image")), text4seg.Open())
	var failed *text4seg.Error
	if errors.As(err, &failed) {
		fmt.Println(failed.Code, failed.Reason, failed.Fields[0].Field, failed.RequestID != "")
	}
	fmt.Println(errors.Is(err, text4seg.ErrImageInvalid))
	// Output:
	// InvalidArgument IMAGE_INVALID image.content true
	// true
}
