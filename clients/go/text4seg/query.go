package text4seg

import (
	pb "github.com/text4seg/text4seg-serving/clients/go/gen/text4seg/v1"
)

// Query says what to look for: [Phrases], [Labels] or [Open].
type Query struct {
	message *pb.Query
}

// Phrases asks for referring expressions, such as "the dog on the left", each by itself. Each may match nothing, one thing
// or several.
func Phrases(phrases ...string) Query {
	return Query{&pb.Query{Kind: &pb.Query_Phrases{Phrases: &pb.PhraseQuery{Phrases: phrases}}}}
}

// Labels asks for semantic segmentation by a closed list of labels: each cell gets one of them or none.
func Labels(labels ...string) Query {
	return Query{&pb.Query{Kind: &pb.Query_Labels{Labels: &pb.LabelQuery{Labels: labels}}}}
}

// Open asks the model to name what it sees.
func Open() Query {
	return Query{&pb.Query{Kind: &pb.Query_Open{Open: &pb.OpenQuery{}}}}
}

// User is a question in a conversation.
func User(text string) *pb.Turn { return &pb.Turn{Role: pb.Role_ROLE_USER, Text: text} }

// Assistant is an answer of the model in a conversation. The last message of [Client.Chat] holds it ready-made.
func Assistant(text string) *pb.Turn { return &pb.Turn{Role: pb.Role_ROLE_ASSISTANT, Text: text} }

// AnswerOption shapes an answer.
type AnswerOption func(*answerOptions)

type answerOptions struct {
	segment   *pb.SegmentOptions
	maxTokens int32
}

func readOptions(options []AnswerOption) answerOptions {
	read := answerOptions{segment: &pb.SegmentOptions{}}
	for _, option := range options {
		option(&read)
	}
	return read
}

// Refine says whether masks are sharpened. Without it they are, where that works, in Segment and StreamSegment, and are
// not in Detect and Chat.
func Refine(mode pb.RefineMode) AnswerOption {
	return func(o *answerOptions) { o.segment.Refine = mode }
}

// RefinerModel chooses one of the refiner's models, as GetModelInfo lists them. Not for Detect.
func RefinerModel(name string) AnswerOption {
	return func(o *answerOptions) { o.segment.RefinerModel = name }
}

// MaskFormat chooses the form of the masks; without it COCO run-length encoding. Package mask reads them all. Not for
// Detect.
func MaskFormat(format pb.MaskFormat) AnswerOption {
	return func(o *answerOptions) { o.segment.MaskFormat = format }
}

// ConfidenceMap asks for the probability of its label in every cell, with each region. Not for Detect.
func ConfidenceMap() AnswerOption {
	return func(o *answerOptions) { o.segment.ConfidenceMap = true }
}

// MinScore leaves out what scores lower, 0 to 1.
func MinScore(score float32) AnswerOption {
	return func(o *answerOptions) { o.segment.MinScore = score }
}

// SplitInstances splits regions into connected components. A heuristic: touching objects stay one, and an occluded one
// falls apart.
func SplitInstances() AnswerOption {
	return func(o *answerOptions) { o.segment.SplitInstances = true }
}

// Cache says how the server's cache of answers takes part.
func Cache(mode pb.CacheMode) AnswerOption {
	return func(o *answerOptions) { o.segment.Cache = mode }
}

// Seed sets the seed of everything random: the same request gives the same answer.
func Seed(seed int64) AnswerOption {
	return func(o *answerOptions) { o.segment.Seed = seed }
}

// Strict makes an error ([ErrDescriptorMalformed]) of text that had to be repaired in a way that may have changed the
// grid. Not for Detect.
func Strict() AnswerOption {
	return func(o *answerOptions) { o.segment.Strict = true }
}

// MaxTokens cuts the answer of Chat off. Without it, the model's own limit holds.
func MaxTokens(tokens int32) AnswerOption {
	return func(o *answerOptions) { o.maxTokens = tokens }
}
