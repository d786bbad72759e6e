package text4seg

import (
	"context"
	"errors"
	"io"
	"iter"

	"google.golang.org/grpc"

	pb "github.com/text4seg/text4seg-serving/clients/go/gen/text4seg/v1"
)

// StreamSegment answers like [Client.Segment], in pieces: rows of the grid as the model writes them, the coarse regions,
// then the complete answer. Every loop over it is a call of its own; leaving the loop early cancels the call on the
// server. An error ends the loop, with a nil message.
func (c *Client) StreamSegment(
	ctx context.Context, image Image, query Query, options ...AnswerOption,
) iter.Seq2[*pb.StreamSegmentResponse, error] {
	with := readOptions(options).segment
	return stream(c, ctx, image, func(
		ctx context.Context, small *pb.Image,
	) (grpc.ServerStreamingClient[pb.StreamSegmentResponse], error) {
		return c.stub.StreamSegment(ctx, &pb.StreamSegmentRequest{Image: small, Query: query.message, Options: with})
	})
}

// Chat answers the last turn of a conversation about an image, which travels with each call: questions ([User]) and
// answers in turn, a question first and last. The answer comes as text, the regions of each descriptor in it, and one
// last message, whose turn is to be sent along with the next question. Loops are as with [Client.StreamSegment].
func (c *Client) Chat(
	ctx context.Context, image Image, turns []*pb.Turn, options ...AnswerOption,
) iter.Seq2[*pb.ChatResponse, error] {
	with := readOptions(options)
	return stream(c, ctx, image, func(
		ctx context.Context, small *pb.Image,
	) (grpc.ServerStreamingClient[pb.ChatResponse], error) {
		return c.stub.Chat(ctx, &pb.ChatRequest{
			Image: small, Turns: turns, Options: with.segment, MaxTokens: with.maxTokens,
		})
	})
}

// SegmentFrames applies one query to a stream of frames, until the channel is closed. Answers carry the sequence number
// of their frame; a slow consumer loses stale frames. A context without a deadline stays without one here. Frames are
// received only while a loop over the result runs, and leaving it early cancels the call.
func (c *Client) SegmentFrames(
	ctx context.Context, query Query, frames <-chan *pb.Frame, options ...AnswerOption,
) iter.Seq2[*pb.SegmentFramesResponse, error] {
	settings := &pb.FramesSettings{Query: query.message, Options: readOptions(options).segment}
	return func(yield func(*pb.SegmentFramesResponse, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		stream, err := c.stub.SegmentFrames(ctx)
		if err != nil {
			cancel()
			yield(nil, err)
			return
		}
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			sendFrames(ctx, stream, settings, frames)
		}()
		defer func() {
			cancel()
			<-sent
		}()
		deliver(stream, nil, yield)
	}
}

// sendFrames sends until there are no more frames, or the call has ended; why it ended, the receiving side learns.
func sendFrames(
	ctx context.Context, stream grpc.BidiStreamingClient[pb.SegmentFramesRequest, pb.SegmentFramesResponse],
	settings *pb.FramesSettings, frames <-chan *pb.Frame,
) {
	first := &pb.SegmentFramesRequest{Message: &pb.SegmentFramesRequest_Settings{Settings: settings}}
	if stream.Send(first) != nil {
		return
	}
	for {
		select {
		case <-ctx.Done():
			return
		case frame, more := <-frames:
			if !more {
				_ = stream.CloseSend() // it never fails
				return
			}
			next := &pb.SegmentFramesRequest{Message: &pb.SegmentFramesRequest_Frame{Frame: frame}}
			if stream.Send(next) != nil {
				return
			}
		}
	}
}

type receiver[Message any] interface{ Recv() (*Message, error) }

// stream makes a call with many answers. Up to the first of them it may be tried again.
func stream[Message any](
	c *Client, ctx context.Context, image Image,
	open func(context.Context, *pb.Image) (grpc.ServerStreamingClient[Message], error),
) iter.Seq2[*Message, error] {
	return func(yield func(*Message, error) bool) {
		ctx, done := c.bounded(ctx)
		defer done()
		var opened receiver[Message]
		var first *Message
		err := c.withImage(ctx, image, func(small *pb.Image) error {
			attempt, err := open(ctx, small)
			if err != nil {
				return err
			}
			opened = attempt
			if first, err = attempt.Recv(); errors.Is(err, io.EOF) {
				return nil
			}
			return err
		})
		if err != nil {
			yield(nil, err)
			return
		}
		if first != nil {
			deliver(opened, first, yield)
		}
	}
}

// deliver hands messages on until the stream ends or nobody wants more.
func deliver[Message any](from receiver[Message], first *Message, yield func(*Message, error) bool) {
	if first != nil && !yield(first, nil) {
		return
	}
	for {
		message, err := from.Recv()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			yield(nil, err)
			return
		}
		if !yield(message, nil) {
			return
		}
	}
}
