package text4seg

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Reason is why a call failed: a value of the API's closed list. It is an error itself, to compare with:
//
//	errors.Is(err, text4seg.ErrOverloaded)
type Reason string

// The reasons, as protos/text4seg/v1/error_reason.proto describes them.
const (
	ErrImageInvalid         Reason = "IMAGE_INVALID"         // empty, damaged, of an unknown format, or too large
	ErrQueryInvalid         Reason = "QUERY_INVALID"         // missing, empty, too long, too many phrases, out of turn
	ErrLabelInvalid         Reason = "LABEL_INVALID"         // cannot be written in a descriptor
	ErrOptionInvalid        Reason = "OPTION_INVALID"        // out of range, or unknown to this server
	ErrImageNotFound        Reason = "IMAGE_NOT_FOUND"       // nothing is stored under the id, or not any more
	ErrUnauthenticated      Reason = "UNAUTHENTICATED"       // no credentials, or unknown ones
	ErrPermissionDenied     Reason = "PERMISSION_DENIED"     // known credentials that do not allow this call
	ErrOverloaded           Reason = "OVERLOADED"            // a queue is full, or the caller is over its limit
	ErrModelLoading         Reason = "MODEL_LOADING"         // the model is still being loaded
	ErrPeerUnavailable      Reason = "PEER_UNAVAILABLE"      // a service that the server needs cannot be reached
	ErrServiceUnavailable   Reason = "SERVICE_UNAVAILABLE"   // starting or draining, or nobody answers
	ErrDeadlineExceeded     Reason = "DEADLINE_EXCEEDED"     // the deadline passed
	ErrDescriptorMalformed  Reason = "DESCRIPTOR_MALFORMED"  // the model's text had to be repaired, with Strict
	ErrFeatureUnimplemented Reason = "FEATURE_UNIMPLEMENTED" // part of the API but not of this server
	ErrCheckpointInvalid    Reason = "CHECKPOINT_INVALID"    // the model's checkpoint is missing or damaged
	ErrInternal             Reason = "INTERNAL"              // anything else
)

// Error returns the reason's name.
func (r Reason) Error() string { return string(r) }

const (
	errorDomain  = "text4seg"
	requestIDKey = "x-request-id"
)

// Error is a failed call. It wraps its [Reason], so that [errors.Is] finds it.
type Error struct {
	Reason    Reason            // from the ErrorInfo, or what gRPC's code amounts to; empty for a cancelled call
	Code      codes.Code        // of gRPC
	Message   string            // one line for a person
	Metadata  map[string]string // of the ErrorInfo: "image_id", "peer", "stage", "row" and "column", "feature"
	Fields    []FieldViolation  // what is wrong with the request, for INVALID_ARGUMENT
	RequestID string            // names the call in the server's log; empty when no server answered
	status    *status.Status
	retry     *time.Duration
}

// FieldViolation is a field of the request, as the caller wrote it, and what is wrong with it.
type FieldViolation struct {
	Field       string // "query.phrases.phrases[2]"
	Description string
}

// Error returns the reason and the message.
func (e *Error) Error() string {
	if e.Reason == "" {
		return e.Message
	}
	return fmt.Sprintf("%s: %s", e.Reason, e.Message)
}

// Is compares with the reason, and with [context.Canceled] and [context.DeadlineExceeded].
func (e *Error) Is(target error) bool {
	switch target {
	case e.Reason:
		return true
	case context.Canceled:
		return e.Code == codes.Canceled
	case context.DeadlineExceeded:
		return e.Code == codes.DeadlineExceeded
	}
	return false
}

// GRPCStatus returns the status with all its details; google.golang.org/grpc/status finds it.
func (e *Error) GRPCStatus() *status.Status { return e.status }

// RetryAfter returns how long the server asks to be left alone, and whether it asks to be tried again at all.
func (e *Error) RetryAfter() (time.Duration, bool) {
	if e.retry == nil {
		return 0, false
	}
	return *e.retry, true
}

// IsUnreachable says whether nobody answered at the address, as opposed to a server that answered that it cannot now.
func IsUnreachable(err error) bool {
	var failed *Error
	return errors.As(err, &failed) && failed.Code == codes.Unavailable && failed.retry == nil
}

// asError turns what gRPC reports into an [*Error]; nil, and what gRPC did not report, stay as they are.
func asError(err error, trailer metadata.MD) error {
	var known *Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	reported, ok := status.FromError(err)
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		reported, ok = status.FromContextError(err), true
	}
	if !ok {
		return err
	}
	failed := &Error{Code: reported.Code(), Message: reported.Message(), status: reported}
	if ids := trailer.Get(requestIDKey); len(ids) > 0 {
		failed.RequestID = ids[0]
	}
	for _, detail := range reported.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			if detail.GetDomain() == errorDomain {
				failed.Reason, failed.Metadata = Reason(detail.GetReason()), detail.GetMetadata()
			}
		case *errdetails.BadRequest:
			for _, violation := range detail.GetFieldViolations() {
				failed.Fields = append(failed.Fields, FieldViolation{violation.GetField(), violation.GetDescription()})
			}
		case *errdetails.RetryInfo:
			if failed.Code == codes.Unavailable || failed.Code == codes.ResourceExhausted {
				after := max(0, detail.GetRetryDelay().AsDuration())
				failed.retry = &after
			}
		}
	}
	if failed.Reason == "" {
		failed.Reason = reasonOf(failed.Code, failed.Message)
	}
	return failed
}

// reasonOf judges a status without an ErrorInfo of ours: what gRPC itself, or something in between, reports.
func reasonOf(code codes.Code, message string) Reason {
	switch code {
	case codes.InvalidArgument:
		return ErrOptionInvalid
	case codes.Unauthenticated:
		return ErrUnauthenticated
	case codes.PermissionDenied:
		return ErrPermissionDenied
	case codes.ResourceExhausted:
		// The text of every gRPC implementation for a message over the size limit; there is no other sign of it.
		if strings.Contains(strings.ToLower(message), "message larger than max") {
			return ErrOptionInvalid
		}
		return ErrOverloaded
	case codes.Unavailable:
		return ErrServiceUnavailable
	case codes.Canceled:
		return "" // the caller's own doing
	case codes.DeadlineExceeded:
		return ErrDeadlineExceeded
	case codes.Unimplemented:
		return ErrFeatureUnimplemented
	}
	return ErrInternal
}
