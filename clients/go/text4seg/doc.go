// Package text4seg is the Go client of Text4Seg Serving, which segments images by text.
//
//	client, err := text4seg.NewClient("127.0.0.1:50051")
//	if err != nil {
//		return err
//	}
//	defer client.Close()
//	answer, err := client.Segment(ctx, text4seg.File("cat.jpg"), text4seg.Phrases("the cat"))
//	if err != nil {
//		return err
//	}
//	for _, region := range answer.GetRegions() {
//		pixels, err := mask.FromProto(region.GetMask())
//		...
//	}
//
// A [Client] has one method per call of the API. Answers are the generated messages, whose documentation says what each
// field means; package mask reads the masks in them, package descriptor the text and grids that the model wrote, and
// package overlay draws what was found.
//
// # Deadlines and retries
//
// A call whose context has no deadline gets one of [DefaultTimeout] (see [WithTimeout]); it covers uploads and retries
// too. Cancelling the context, or leaving a loop over a stream, stops the model on the server. A call is tried again only
// when the server says when to come back: RESOURCE_EXHAUSTED or UNAVAILABLE with a RetryInfo. That is its promise that
// the call had no effect. See [RetryPolicy].
//
// # Errors
//
// Failed calls return an [*Error]. [errors.Is] compares with its reason, or with [context.DeadlineExceeded] and
// [context.Canceled]; [errors.As] gives access to the rest:
//
//	var failed *text4seg.Error
//	switch {
//	case errors.Is(err, text4seg.ErrImageInvalid):
//		...
//	case errors.As(err, &failed):
//		log.Print(failed.Code, failed.Reason, failed.RequestID)
//	}
//
// An image file that cannot be read is an [io/fs.PathError], as [os.ReadFile] returns it.
package text4seg
