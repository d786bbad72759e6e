package text4seg_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/text4seg/text4seg-serving/clients/go/gen/text4seg/v1"
	"github.com/text4seg/text4seg-serving/clients/go/text4seg"
)

// fakeServer is no segmentation service: it fails as it is told to, then answers with what it was sent.
type fakeServer struct {
	pb.UnimplementedSegmentationServiceServer

	mutex    sync.Mutex
	failures []error                            // of the next calls, in order; then calls work
	calls    int                                // all of them
	requests []*pb.SegmentRequest               // of Segment
	pieces   []int                              // sizes of what PutImage got
	uploads  int                                // calls of PutImage
	headers  []metadata.MD                      // of all calls
	left     chan error                         // why a StreamSegment ended
	deadline func(has bool, left time.Duration) // of every call
}

func (s *fakeServer) begin(ctx context.Context) error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.calls++
	header, _ := metadata.FromIncomingContext(ctx)
	s.headers = append(s.headers, header)
	if s.deadline != nil {
		deadline, has := ctx.Deadline()
		s.deadline(has, time.Until(deadline))
	}
	if len(s.failures) > 0 {
		failure := s.failures[0]
		s.failures = s.failures[1:]
		return failure
	}
	return nil
}

func (s *fakeServer) Segment(ctx context.Context, request *pb.SegmentRequest) (*pb.SegmentResponse, error) {
	if err := s.begin(ctx); err != nil {
		_ = grpc.SetTrailer(ctx, metadata.Pairs("x-request-id", "fake-1"))
		return nil, err
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.requests = append(s.requests, request)
	return &pb.SegmentResponse{}, nil
}

// StreamSegment sends rows for ever.
func (s *fakeServer) StreamSegment(
	_ *pb.StreamSegmentRequest, stream grpc.ServerStreamingServer[pb.StreamSegmentResponse],
) error {
	if err := s.begin(stream.Context()); err != nil {
		return err
	}
	for row := int32(0); ; row++ {
		event := &pb.StreamSegmentResponse_Row{Row: &pb.GridRow{Row: row}}
		if err := stream.Send(&pb.StreamSegmentResponse{Event: event}); err != nil {
			s.left <- stream.Context().Err()
			return err
		}
	}
}

// SegmentFrames answers every frame.
func (s *fakeServer) SegmentFrames(
	stream grpc.BidiStreamingServer[pb.SegmentFramesRequest, pb.SegmentFramesResponse],
) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	if first.GetSettings() == nil {
		return status.Error(codes.InvalidArgument, "no settings")
	}
	for {
		request, err := stream.Recv()
		if err != nil {
			return nil // there are no more
		}
		answer := &pb.SegmentFramesResponse{Sequence: request.GetFrame().GetSequence()}
		if err := stream.Send(answer); err != nil {
			return err
		}
	}
}

func (s *fakeServer) PutImage(stream grpc.ClientStreamingServer[pb.PutImageRequest, pb.PutImageResponse]) error {
	if err := s.begin(stream.Context()); err != nil {
		return err
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.uploads++
	for {
		piece, err := stream.Recv()
		if err != nil {
			return stream.SendAndClose(&pb.PutImageResponse{Id: "sha256-fake"})
		}
		s.pieces = append(s.pieces, len(piece.GetChunk()))
	}
}

// listen runs the fake on a port of the loopback interface, and returns its address.
func listen(t *testing.T, fake *fakeServer, server ...grpc.ServerOption) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	running := grpc.NewServer(server...)
	pb.RegisterSegmentationServiceServer(running, fake)
	ended := make(chan error, 1)
	go func() { ended <- running.Serve(listener) }()
	t.Cleanup(func() {
		running.Stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return listener.Addr().String()
}

// serve runs the fake, and a client of it.
func serve(
	t *testing.T, fake *fakeServer, options []text4seg.Option, server ...grpc.ServerOption,
) *text4seg.Client {
	t.Helper()
	return dial(t, listen(t, fake, server...), options...)
}

func dial(t *testing.T, address string, options ...text4seg.Option) *text4seg.Client {
	t.Helper()
	client, err := text4seg.NewClient(address, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	return client
}

// fault is an error as the services send it.
func fault(code codes.Code, reason string, details ...protoadapt.MessageV1) error {
	info := &errdetails.ErrorInfo{Domain: "text4seg", Reason: reason, Metadata: map[string]string{"peer": "generator"}}
	described, err := status.New(code, "not now").WithDetails(append(details, info)...)
	if err != nil {
		panic(err)
	}
	return described.Err()
}

// again is the detail by which a server asks to be tried again.
func again(after time.Duration) protoadapt.MessageV1 {
	return &errdetails.RetryInfo{RetryDelay: durationpb.New(after)}
}

var quick = text4seg.WithRetry(text4seg.RetryPolicy{
	Attempts: 3, Initial: time.Millisecond, Multiplier: 1, Longest: time.Millisecond,
})
