package text4seg_test

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"

	pb "github.com/text4seg/text4seg-serving/clients/go/gen/text4seg/v1"
	"github.com/text4seg/text4seg-serving/clients/go/text4seg"
)

var (
	picture = text4seg.Bytes([]byte("a picture"))
	cat     = text4seg.Phrases("the cat")
)

func TestWhatMayBeTriedAgainIs(t *testing.T) {
	for name, failures := range map[string][]error{
		"nothing":     nil,
		"overloaded":  {fault(codes.ResourceExhausted, "OVERLOADED", again(time.Millisecond))},
		"unavailable": {fault(codes.Unavailable, "PEER_UNAVAILABLE", again(0)), fault(codes.Unavailable, "MODEL_LOADING", again(0))},
	} {
		fake := &fakeServer{failures: slices.Clone(failures)}
		client := serve(t, fake, []text4seg.Option{quick})
		if _, err := client.Segment(t.Context(), picture, cat); err != nil || fake.calls != len(failures)+1 {
			t.Errorf("%s: %v after %d calls", name, err, fake.calls)
		}
	}
}

func TestNothingElseIsTriedAgain(t *testing.T) {
	for name, failure := range map[string]error{
		"no wish":      fault(codes.Unavailable, "SERVICE_UNAVAILABLE"),
		"other code":   fault(codes.Internal, "INTERNAL", again(0)),
		"plain gRPC":   status.Error(codes.Unavailable, "gone"),
		"past the end": fault(codes.ResourceExhausted, "OVERLOADED", again(time.Hour)),
	} {
		fake := &fakeServer{failures: []error{failure}}
		client := serve(t, fake, []text4seg.Option{quick})
		_, err := client.Segment(t.Context(), picture, cat)
		if status.Code(err) != status.Code(failure) || fake.calls != 1 {
			t.Errorf("%s: %v after %d calls", name, err, fake.calls)
		}
	}
}

func TestRetriesAreBounded(t *testing.T) {
	failure := fault(codes.Unavailable, "PEER_UNAVAILABLE", again(0))
	fake := &fakeServer{failures: slices.Repeat([]error{failure}, 9)}
	client := serve(t, fake, []text4seg.Option{quick})
	_, err := client.Segment(t.Context(), picture, cat)
	if !errors.Is(err, text4seg.ErrPeerUnavailable) || fake.calls != 3 {
		t.Errorf("%v after %d calls", err, fake.calls)
	}
}

func TestAStreamIsTriedAgainUpToItsFirstMessage(t *testing.T) {
	fake := &fakeServer{
		failures: []error{fault(codes.Unavailable, "MODEL_LOADING", again(0))}, left: make(chan error, 1),
	}
	client := serve(t, fake, []text4seg.Option{quick})
	rows := 0
	for event, err := range client.StreamSegment(t.Context(), picture, cat) {
		if err != nil {
			t.Fatal(err)
		}
		if event.GetRow().GetRow() != int32(rows) {
			t.Errorf("row %d came as number %d", event.GetRow().GetRow(), rows)
		}
		if rows++; rows == 5 {
			break
		}
	}
	// Leaving the loop ended the call on the server.
	select {
	case reason := <-fake.left:
		if !errors.Is(reason, context.Canceled) || rows != 5 || fake.calls != 2 {
			t.Errorf("%v after %d rows and %d calls", reason, rows, fake.calls)
		}
	case <-time.After(time.Minute):
		t.Error("the call goes on")
	}
}

func TestAFailedStreamEndsTheLoop(t *testing.T) {
	fake := &fakeServer{failures: []error{fault(codes.InvalidArgument, "QUERY_INVALID")}}
	client := serve(t, fake, nil)
	var seen []error
	for event, err := range client.StreamSegment(t.Context(), picture, cat) {
		if event != nil {
			t.Errorf("%v came with an error", event)
		}
		seen = append(seen, err)
	}
	if len(seen) != 1 || !errors.Is(seen[0], text4seg.ErrQueryInvalid) {
		t.Errorf("%v", seen)
	}
}

func TestAnErrorSaysWhatTheServerSaid(t *testing.T) {
	violation := &errdetails.BadRequest_FieldViolation{Field: "query.phrases.phrases[2]", Description: "is empty"}
	request := &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{violation}}
	fake := &fakeServer{failures: []error{
		fault(codes.InvalidArgument, "QUERY_INVALID", request),
		fault(codes.ResourceExhausted, "OVERLOADED", again(3*time.Second)),
	}}
	client := serve(t, fake, []text4seg.Option{text4seg.WithRetry(text4seg.RetryPolicy{Attempts: 1, Multiplier: 1})})

	_, err := client.Segment(t.Context(), picture, cat)
	var failed *text4seg.Error
	if !errors.As(err, &failed) || !errors.Is(err, text4seg.ErrQueryInvalid) || errors.Is(err, text4seg.ErrInternal) {
		t.Fatal(err)
	}
	fields := []text4seg.FieldViolation{{Field: "query.phrases.phrases[2]", Description: "is empty"}}
	if failed.Code != codes.InvalidArgument || failed.Message != "not now" || failed.RequestID != "fake-1" ||
		failed.Metadata["peer"] != "generator" || !slices.Equal(failed.Fields, fields) {
		t.Errorf("%+v", failed)
	}
	if failed.Error() != "QUERY_INVALID: not now" || len(status.Convert(err).Details()) != 2 {
		t.Errorf("%v, %v", failed, status.Convert(err).Details())
	}

	_, err = client.Segment(t.Context(), picture, cat)
	if !errors.As(err, &failed) {
		t.Fatal(err)
	}
	if after, asked := failed.RetryAfter(); !asked || after != 3*time.Second || text4seg.IsUnreachable(err) {
		t.Errorf("%v, %v", after, asked)
	}
}

// All reasons of the API have a constant: a new one in the protos fails here.
func TestEveryReasonHasAnError(t *testing.T) {
	reasons := []text4seg.Reason{
		text4seg.ErrImageInvalid, text4seg.ErrQueryInvalid, text4seg.ErrLabelInvalid, text4seg.ErrOptionInvalid,
		text4seg.ErrImageNotFound, text4seg.ErrUnauthenticated, text4seg.ErrPermissionDenied,
		text4seg.ErrOverloaded, text4seg.ErrModelLoading, text4seg.ErrPeerUnavailable,
		text4seg.ErrServiceUnavailable, text4seg.ErrDeadlineExceeded, text4seg.ErrDescriptorMalformed,
		text4seg.ErrFeatureUnimplemented, text4seg.ErrCheckpointInvalid, text4seg.ErrInternal,
	}
	var have, want []string
	for _, reason := range reasons {
		have = append(have, "ERROR_REASON_"+string(reason))
	}
	for number, name := range pb.ErrorReason_name {
		if number != 0 {
			want = append(want, name)
		}
	}
	slices.Sort(have)
	slices.Sort(want)
	if !slices.Equal(have, want) {
		t.Errorf("%v, not %v", have, want)
	}
}

// What gRPC itself reports has no details.
func TestErrorsOfGRPCItselfHaveReasons(t *testing.T) {
	for message, want := range map[string]struct {
		code   codes.Code
		reason text4seg.Reason
	}{
		"no key":                  {codes.Unauthenticated, text4seg.ErrUnauthenticated},
		"not you":                 {codes.PermissionDenied, text4seg.ErrPermissionDenied},
		"Message larger than max": {codes.ResourceExhausted, text4seg.ErrOptionInvalid},
		"too much":                {codes.ResourceExhausted, text4seg.ErrOverloaded},
		"gone":                    {codes.Unavailable, text4seg.ErrServiceUnavailable},
		"unknown method":          {codes.Unimplemented, text4seg.ErrFeatureUnimplemented},
		"wrong":                   {codes.InvalidArgument, text4seg.ErrOptionInvalid},
		"who knows":               {codes.Unknown, text4seg.ErrInternal},
		"too late":                {codes.DeadlineExceeded, text4seg.ErrDeadlineExceeded},
	} {
		client := serve(t, &fakeServer{failures: []error{status.Error(want.code, message)}}, nil)
		if _, err := client.Segment(t.Context(), picture, cat); !errors.Is(err, want.reason) {
			t.Errorf("%s: %v", message, err)
		}
	}
}

func TestNobodyAtTheAddress(t *testing.T) {
	client, err := text4seg.NewClient("127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.ModelInfo(t.Context()); !text4seg.IsUnreachable(err) {
		t.Errorf("the error is %v", err)
	}
}

func TestDeadlines(t *testing.T) {
	var has bool
	var left time.Duration
	fake := &fakeServer{deadline: func(hasOne bool, remaining time.Duration) { has, left = hasOne, remaining }}
	call := func(ctx context.Context, client *text4seg.Client) {
		t.Helper()
		if _, err := client.Segment(ctx, picture, cat); err != nil {
			t.Error(err)
		}
	}
	client := serve(t, fake, nil)
	if call(t.Context(), client); !has || left > text4seg.DefaultTimeout || left < text4seg.DefaultTimeout/2 {
		t.Errorf("without a deadline the call had %v", left)
	}
	longer, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	if call(longer, client); !has || left < text4seg.DefaultTimeout {
		t.Errorf("with a deadline of its own the call had %v", left)
	}
	if call(t.Context(), serve(t, fake, []text4seg.Option{text4seg.WithTimeout(0)})); has {
		t.Errorf("without any the call had %v", left)
	}
	past, cancelPast := context.WithTimeout(t.Context(), 0)
	defer cancelPast()
	_, err := client.Segment(past, picture, cat)
	if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, text4seg.ErrDeadlineExceeded) {
		t.Errorf("after the deadline: %v", err)
	}
	cancelled, cancelNow := context.WithCancel(t.Context())
	cancelNow()
	if _, err = client.Segment(cancelled, picture, cat); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestLargeImagesAreUploadedFirst(t *testing.T) {
	fake := &fakeServer{}
	client := serve(t, fake, []text4seg.Option{text4seg.WithInlineBytes(10), text4seg.WithChunkBytes(4)})
	for _, size := range []int{10, 11} {
		if _, err := client.Segment(t.Context(), text4seg.Bytes(make([]byte, size)), cat); err != nil {
			t.Fatal(err)
		}
	}
	small, large := fake.requests[0].GetImage(), fake.requests[1].GetImage()
	if len(small.GetContent()) != 10 || large.GetId() != "sha256-fake" || !slices.Equal(fake.pieces, []int{4, 4, 3}) {
		t.Errorf("%v, %v, pieces %v", small, large, fake.pieces)
	}
}

func TestAnImageThatTheServerLostIsUploadedAgain(t *testing.T) {
	lost := fault(codes.NotFound, "IMAGE_NOT_FOUND")
	fake := &fakeServer{failures: []error{nil, lost}}
	client := serve(t, fake, []text4seg.Option{text4seg.WithInlineBytes(0)})
	if _, err := client.Segment(t.Context(), picture, cat); err != nil || fake.uploads != 2 {
		t.Errorf("%v after %d uploads", err, fake.uploads)
	}
	fake.failures = []error{nil, lost, nil, lost}
	if _, err := client.Segment(t.Context(), picture, cat); !errors.Is(err, text4seg.ErrImageNotFound) {
		t.Errorf("lost twice: %v", err)
	}
}

func TestAnUploadThatIsRefusedSaysWhy(t *testing.T) {
	client := serve(t, &fakeServer{failures: []error{fault(codes.InvalidArgument, "IMAGE_INVALID")}}, nil)
	_, err := client.PutImage(t.Context(), text4seg.Bytes(make([]byte, 8<<20)))
	if !errors.Is(err, text4seg.ErrImageInvalid) {
		t.Errorf("the error is %v", err)
	}
}

func TestImagesThatCannotBeSent(t *testing.T) {
	client := serve(t, &fakeServer{}, nil)
	var missing *fs.PathError
	if _, err := client.Segment(t.Context(), text4seg.File("no/such.jpg"), cat); !errors.As(err, &missing) {
		t.Errorf("a missing file: %v", err)
	}
	if _, err := client.PutImage(t.Context(), text4seg.Stored("sha256-fake")); err == nil {
		t.Error("an id was uploaded")
	}
}

func TestOptionsReachTheServer(t *testing.T) {
	fake := &fakeServer{}
	client := serve(t, fake, nil)
	_, err := client.Segment(t.Context(), text4seg.URI("s3://bucket/cat.jpg"), text4seg.Labels("sky", "road"),
		text4seg.Refine(pb.RefineMode_REFINE_MODE_REQUIRED), text4seg.RefinerModel("light"),
		text4seg.MaskFormat(pb.MaskFormat_MASK_FORMAT_PNG), text4seg.ConfidenceMap(), text4seg.MinScore(0.5),
		text4seg.SplitInstances(), text4seg.Cache(pb.CacheMode_CACHE_MODE_REFRESH), text4seg.Seed(7), text4seg.Strict())
	if err != nil {
		t.Fatal(err)
	}
	got := fake.requests[0]
	want := "refine:REFINE_MODE_REQUIRED mask_format:MASK_FORMAT_PNG confidence_map:true min_score:0.5 " +
		"split_instances:true cache:CACHE_MODE_REFRESH seed:7 strict:true refiner_model:\"light\""
	if options := strings.Join(strings.Fields(got.GetOptions().String()), " "); options != want {
		t.Errorf("%s, not %s", options, want)
	}
	if got.GetImage().GetUri() == "" || !slices.Equal(got.GetQuery().GetLabels().GetLabels(), []string{"sky", "road"}) {
		t.Errorf("%v", got)
	}
}

func TestFramesAreAnsweredUntilThereAreNoMore(t *testing.T) {
	client := serve(t, &fakeServer{}, nil)
	frames := make(chan *pb.Frame, 3)
	for sequence := range int64(3) {
		frames <- &pb.Frame{Sequence: sequence}
	}
	close(frames)
	var seen []int64
	for answer, err := range client.SegmentFrames(t.Context(), cat, frames) {
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, answer.GetSequence())
	}
	if !slices.Equal(seen, []int64{0, 1, 2}) {
		t.Errorf("%v", seen)
	}
}

func TestALoopOverFramesCanBeLeft(t *testing.T) {
	client := serve(t, &fakeServer{}, nil)
	frames := make(chan *pb.Frame, 1) // it stays open
	frames <- &pb.Frame{Sequence: 7}
	for answer, err := range client.SegmentFrames(t.Context(), cat, frames) {
		if err != nil || answer.GetSequence() != 7 {
			t.Fatal(answer, err)
		}
		break
	}
}

func TestCallsAreSpreadOverReplicas(t *testing.T) {
	replicas := []*fakeServer{{}, {}}
	names := manual.NewBuilderWithScheme("names")
	var addresses []resolver.Address
	for _, replica := range replicas {
		addresses = append(addresses, resolver.Address{Addr: listen(t, replica)})
	}
	names.InitialState(resolver.State{Addresses: addresses})
	client := dial(t, "names:///text4seg",
		text4seg.WithRoundRobin(), text4seg.WithDialOptions(grpc.WithResolvers(names)))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	// The first calls may find one of the connections not open yet.
	for replicas[0].calls == 0 || replicas[1].calls == 0 {
		if _, err := client.Segment(ctx, picture, cat); err != nil {
			t.Fatalf("%d and %d calls, then %v", replicas[0].calls, replicas[1].calls, err)
		}
	}
}

func TestSettingsThatCannotWorkAreRefused(t *testing.T) {
	for name, option := range map[string]text4seg.Option{
		"attempts":   text4seg.WithRetry(text4seg.RetryPolicy{Attempts: 0, Multiplier: 1}),
		"multiplier": text4seg.WithRetry(text4seg.RetryPolicy{Attempts: 1, Multiplier: 0.5}),
		"backoff":    text4seg.WithRetry(text4seg.RetryPolicy{Attempts: 1, Multiplier: 1, Initial: -1}),
		"timeout":    text4seg.WithTimeout(-time.Second),
		"pieces":     text4seg.WithChunkBytes(0),
	} {
		if _, err := text4seg.NewClient("127.0.0.1:1", option); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
