package descriptor

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/language"
	"golang.org/x/text/unicode/norm"
)

const (
	// Others is the background label, first in the table of every grid.
	Others = "others"
	// MaxLabelLength is the largest number of characters in a label.
	MaxLabelLength = 256
	// MaxCells is the largest number of cells in a grid.
	MaxCells = 32767

	segOpen  = "<seg>"
	segClose = "</seg>"

	// Characters that are looked at: Unicode normalization is quadratic on hostile text.
	maxRawLength = 4 * MaxLabelLength
)

var countLike = regexp.MustCompile(`\*\s*[+-]?\p{Nd}|(?:^|\s)\*|\*$`)

// CheckLabel returns the canonical spelling of a label: lower case, Unicode NFC, single spaces, no white space at its
// ends. It fails with a [LabelError] for what a descriptor could not hold: an empty or overlong label, "others", and
// anything with "|", a line break or other control character, a seg tag, or something that reads as a run length.
func CheckLabel(label string) (string, error) {
	if problem := labelProblem(label); problem != "" {
		return "", &LabelError{Label: label, Problem: problem}
	}
	return normalize(label), nil
}

// LabelError says why a text cannot be a label.
type LabelError struct {
	Label   string // what was to be the label
	Problem string // what is wrong with it, for a person: "is empty"
}

// Error returns one line for a person.
func (e *LabelError) Error() string { return fmt.Sprintf("label %s %s", quote(e.Label), e.Problem) }

// normalize returns the spelling under which labels are compared.
func normalize(text string) string {
	for i := range len(text) {
		if text[i] >= utf8.RuneSelf {
			lower := cases.Lower(language.Und, cases.HandleFinalSigma(true))
			text = norm.NFC.String(lower.String(norm.NFC.String(text)))
			return strings.Join(strings.FieldsFunc(text, isSpace), " ")
		}
	}
	return strings.Join(strings.FieldsFunc(strings.ToLower(text), isSpace), " ")
}

func labelProblem(text string) string {
	stripped := trim(text)
	if !utf8.ValidString(stripped) {
		return "is not valid UTF-8"
	}
	if utf8.RuneCountInString(stripped) > maxRawLength {
		return fmt.Sprintf("is longer than %d characters", MaxLabelLength)
	}
	for _, char := range stripped {
		joiner := char == '\u200c' || char == '\u200d' // needed to write Persian, Indic scripts and some emoji
		if unicode.In(char, unicode.Cc, unicode.Zl, unicode.Zp) || (unicode.Is(unicode.Cf, char) && !joiner) {
			return fmt.Sprintf("contains the control character %U", char)
		}
	}
	label := normalize(stripped)
	switch {
	case label == "":
		return "is empty"
	case utf8.RuneCountInString(label) > MaxLabelLength:
		return fmt.Sprintf("is longer than %d characters", MaxLabelLength)
	case strings.Contains(label, "|"):
		return "contains '|', which separates runs"
	case strings.Contains(label, segOpen) || strings.Contains(label, segClose):
		return "contains a '<seg>' or '</seg>' tag"
	case countLike.MatchString(label):
		return "contains something that reads as a run length, such as ' *3'"
	case label == Others:
		return "is 'others', the name of the background"
	}
	return ""
}

// isSpace says what the Python code calls white space: what Unicode does, and four separators of ASCII.
func isSpace(char rune) bool { return unicode.IsSpace(char) || (0x1c <= char && char <= 0x1f) }

func trim(text string) string              { return strings.TrimFunc(text, isSpace) }
func trimLeft(text string) string          { return strings.TrimLeftFunc(text, isSpace) }
func isBlank(text string) bool             { return trim(text) == "" }
func quote(text string) string             { return "'" + clip(text, 40, "...") + "'" }
func characters(text string) int           { return utf8.RuneCountInString(text) }
func firstOf(text string, most int) string { return clip(text, most, "") }

// clip returns the first characters of a text, and a sign where there were more.
func clip(text string, most int, sign string) string {
	count := 0
	for at := range text {
		if count == most {
			return text[:at] + sign
		}
		count++
	}
	return text
}
