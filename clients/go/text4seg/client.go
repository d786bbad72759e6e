package text4seg

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	pb "github.com/text4seg/text4seg-serving/clients/go/gen/text4seg/v1"
)

// Client calls the public service. Goroutines may share it.
type Client struct {
	connection  *grpc.ClientConn
	stub        pb.SegmentationServiceClient
	timeout     time.Duration
	retry       RetryPolicy
	inlineBytes int
	chunkBytes  int
}

// NewClient prepares a connection to host:port, or to any target that gRPC understands; the first call opens it.
func NewClient(address string, options ...Option) (*Client, error) {
	with, err := readSettings(options)
	if err != nil {
		return nil, err
	}
	dial := []grpc.DialOption{
		grpc.WithTransportCredentials(with.transport),
		grpc.WithUserAgent("text4seg-go/" + Version),
		// Retries are decided in one place: Client.try.
		grpc.WithDisableRetry(),
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(maxMessageBytes), grpc.MaxCallSendMsgSize(maxMessageBytes)),
		grpc.WithChainUnaryInterceptor(unaryErrors),
		grpc.WithChainStreamInterceptor(streamErrors),
	}
	connection, err := grpc.NewClient(address, append(dial, with.dial...)...)
	if err != nil {
		return nil, err
	}
	return &Client{
		connection:  connection,
		stub:        pb.NewSegmentationServiceClient(connection),
		timeout:     with.timeout,
		retry:       with.retry,
		inlineBytes: with.inlineBytes,
		chunkBytes:  with.chunkBytes,
	}, nil
}

// Close closes the connection; calls that are under way fail.
func (c *Client) Close() error { return c.connection.Close() }

// Connection returns the connection for what this client has no method for. Calls over it fail with [*Error] as well.
func (c *Client) Connection() grpc.ClientConnInterface { return c.connection }

// Segment finds the regions that a query names. Nothing there is an answer without regions, not an error.
func (c *Client) Segment(
	ctx context.Context, image Image, query Query, options ...AnswerOption,
) (*pb.SegmentResponse, error) {
	ctx, done := c.bounded(ctx)
	defer done()
	request := &pb.SegmentRequest{Query: query.message, Options: readOptions(options).segment}
	var answer *pb.SegmentResponse
	err := c.withImage(ctx, image, func(small *pb.Image) (err error) {
		request.Image = small
		answer, err = c.stub.Segment(ctx, request)
		return err
	})
	return answer, err
}

// Detect finds the tight boxes around what a query names. Of the options, [Refine], [MinScore], [SplitInstances], [Cache]
// and [Seed] take part.
func (c *Client) Detect(
	ctx context.Context, image Image, query Query, options ...AnswerOption,
) (*pb.DetectResponse, error) {
	ctx, done := c.bounded(ctx)
	defer done()
	with := readOptions(options).segment
	request := &pb.DetectRequest{
		Query:          query.message,
		Refine:         with.Refine,
		MinScore:       with.MinScore,
		SplitInstances: with.SplitInstances,
		Cache:          with.Cache,
		Seed:           with.Seed,
	}
	var answer *pb.DetectResponse
	err := c.withImage(ctx, image, func(small *pb.Image) (err error) {
		request.Image = small
		answer, err = c.stub.Detect(ctx, request)
		return err
	})
	return answer, err
}

// PutImage uploads an image in pieces; [Stored] with its id then stands for it in the other calls, until it expires.
func (c *Client) PutImage(ctx context.Context, image Image) (*pb.PutImageResponse, error) {
	ctx, done := c.bounded(ctx)
	defer done()
	message, err := image.read()
	if err != nil {
		return nil, err
	}
	content, isContent := message.GetSource().(*pb.Image_Content)
	if !isContent {
		return nil, errors.New("text4seg: an image id or address holds no bytes to upload")
	}
	return c.put(ctx, content.Content)
}

// ModelInfo describes the models behind the server, their versions, and its limits.
func (c *Client) ModelInfo(ctx context.Context) (*pb.GetModelInfoResponse, error) {
	ctx, done := c.bounded(ctx)
	defer done()
	var answer *pb.GetModelInfoResponse
	err := c.try(ctx, func() (err error) {
		answer, err = c.stub.GetModelInfo(ctx, &pb.GetModelInfoRequest{})
		return err
	})
	return answer, err
}

// bounded gives a context a deadline if it has none, and makes it one that can be cancelled.
func (c *Client) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, has := ctx.Deadline(); has || c.timeout == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, c.timeout)
}

// withImage makes a call with an image. A large file goes ahead of it, and once more if the server lost it.
func (c *Client) withImage(ctx context.Context, image Image, call func(small *pb.Image) error) error {
	message, err := image.read()
	if err != nil {
		return err
	}
	send := func(small *pb.Image) error { return c.try(ctx, func() error { return call(small) }) }
	content, isContent := message.GetSource().(*pb.Image_Content)
	if !isContent || len(content.Content) <= c.inlineBytes {
		return send(message)
	}
	stored, err := c.put(ctx, content.Content)
	if err != nil {
		return err
	}
	small := &pb.Image{Source: &pb.Image_Id{Id: stored.GetId()}}
	if err = send(small); !errors.Is(err, ErrImageNotFound) {
		return err
	}
	if _, err = c.put(ctx, content.Content); err != nil {
		return err
	}
	return send(small)
}

func (c *Client) put(ctx context.Context, data []byte) (*pb.PutImageResponse, error) {
	var stored *pb.PutImageResponse
	err := c.try(ctx, func() (err error) {
		stored, err = c.upload(ctx, data)
		return err
	})
	return stored, err
}

func (c *Client) upload(ctx context.Context, data []byte) (*pb.PutImageResponse, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.stub.PutImage(ctx)
	if err != nil {
		return nil, err
	}
	for begin := 0; begin == 0 || begin < len(data); begin += c.chunkBytes {
		piece := data[begin:min(begin+c.chunkBytes, len(data))]
		if err := stream.Send(&pb.PutImageRequest{Chunk: piece}); errors.Is(err, io.EOF) {
			break // the server has answered already: CloseAndRecv returns what
		} else if err != nil {
			return nil, err
		}
	}
	return stream.CloseAndRecv()
}

// unaryErrors makes an [*Error] of every failure.
func unaryErrors(
	ctx context.Context, method string, request, reply any, connection *grpc.ClientConn,
	invoke grpc.UnaryInvoker, options ...grpc.CallOption,
) error {
	var trailer metadata.MD
	err := invoke(ctx, method, request, reply, connection, append(options, grpc.Trailer(&trailer))...)
	return asError(err, trailer)
}

// streamErrors does the same for streams.
func streamErrors(
	ctx context.Context, description *grpc.StreamDesc, connection *grpc.ClientConn, method string,
	open grpc.Streamer, options ...grpc.CallOption,
) (grpc.ClientStream, error) {
	stream, err := open(ctx, description, connection, method, options...)
	if err != nil {
		return nil, asError(err, nil)
	}
	return errorStream{stream}, nil
}

type errorStream struct{ grpc.ClientStream }

// RecvMsg implements grpc.ClientStream; io.EOF stays the end of the stream.
func (s errorStream) RecvMsg(message any) error {
	err := s.ClientStream.RecvMsg(message)
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return asError(err, s.Trailer())
}

// SendMsg implements grpc.ClientStream; io.EOF says that RecvMsg knows what went wrong.
func (s errorStream) SendMsg(message any) error {
	err := s.ClientStream.SendMsg(message)
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return asError(err, nil)
}
