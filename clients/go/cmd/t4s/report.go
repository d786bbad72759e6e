package main

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/text4seg/text4seg-serving/clients/go/gen/text4seg/v1"
)

// The objects that --json prints are those of the Python command line.

type answerJSON struct {
	Image         string           `json:"image"`
	Regions       *[]regionJSON    `json:"regions,omitempty"`
	Detections    *[]detectionJSON `json:"detections,omitempty"`
	NoTargetScore float64          `json:"no_target_score"`
	Timing        timingJSON       `json:"timing_ms"`
	Versions      versionsJSON     `json:"versions"`
}

type regionJSON struct {
	Label   string   `json:"label"`
	Score   float64  `json:"score"`
	Box     [4]int32 `json:"box"`
	Area    int64    `json:"area"`
	Refined bool     `json:"refined"`
	Mask    *rleJSON `json:"mask"`
}

type rleJSON struct {
	Size   [2]int32 `json:"size"`
	Counts string   `json:"counts"`
}

type detectionJSON struct {
	Label string   `json:"label"`
	Score float64  `json:"score"`
	Box   [4]int32 `json:"box"`
}

type timingJSON struct {
	Total    *float64 `json:"total,omitempty"`
	Image    *float64 `json:"image,omitempty"`
	Cache    *float64 `json:"cache,omitempty"`
	Generate *float64 `json:"generate,omitempty"`
	Decode   *float64 `json:"decode,omitempty"`
	Refine   *float64 `json:"refine,omitempty"`
}

type versionsJSON struct {
	Model     string `json:"model"`
	Codec     string `json:"codec"`
	Templates string `json:"templates"`
	Refiner   string `json:"refiner"`
	Server    string `json:"server"`
}

func segmentJSON(path string, answer *pb.SegmentResponse) answerJSON {
	regions := regionsJSON(answer.GetRegions())
	return answerJSON{
		Image: path, Regions: &regions, NoTargetScore: rounded(answer.GetNoTargetScore()),
		Timing: timing(answer.GetTiming()), Versions: versions(answer.GetVersions()),
	}
}

func detectJSON(path string, answer *pb.DetectResponse) answerJSON {
	detections := make([]detectionJSON, len(answer.GetDetections()))
	for i, one := range answer.GetDetections() {
		detections[i] = detectionJSON{one.GetLabel(), rounded(one.GetScore()), corners(one.GetBox())}
	}
	return answerJSON{
		Image: path, Detections: &detections, NoTargetScore: rounded(answer.GetNoTargetScore()),
		Timing: timing(answer.GetTiming()), Versions: versions(answer.GetVersions()),
	}
}

func regionsJSON(regions []*pb.Region) []regionJSON {
	written := make([]regionJSON, len(regions))
	for i, region := range regions {
		written[i] = regionJSON{
			Label: region.GetLabel(), Score: rounded(region.GetScore()), Box: corners(region.GetBox()),
			Area: region.GetArea(), Refined: region.GetRefined(),
		}
		if rle := region.GetMask().GetRle(); rle != nil {
			written[i].Mask = &rleJSON{[2]int32{rle.GetSize().GetHeight(), rle.GetSize().GetWidth()}, rle.GetCounts()}
		}
	}
	return written
}

func corners(box *pb.Box) [4]int32 {
	return [4]int32{box.GetX0(), box.GetY0(), box.GetX1(), box.GetY1()}
}

// rounded keeps six digits: scores travel as 32-bit floats.
func rounded(score float32) float64 { return digits(float64(score), 6) }

func digits(value float64, after int) float64 {
	short, err := strconv.ParseFloat(strconv.FormatFloat(value, 'f', after, 64), 64)
	if err != nil {
		return value
	}
	return short
}

func milliseconds(stage *durationpb.Duration) *float64 {
	if stage == nil {
		return nil
	}
	value := digits(stage.AsDuration().Seconds()*1000, 3)
	return &value
}

func timing(stages *pb.Timing) timingJSON {
	return timingJSON{
		milliseconds(stages.GetTotal()), milliseconds(stages.GetImage()), milliseconds(stages.GetCache()),
		milliseconds(stages.GetGenerate()), milliseconds(stages.GetDecode()), milliseconds(stages.GetRefine()),
	}
}

func versions(of *pb.Versions) versionsJSON {
	return versionsJSON{of.GetModel(), of.GetCodec(), of.GetTemplates(), of.GetRefiner(), of.GetServer()}
}

func segmentText(path string, answer *pb.SegmentResponse) string {
	return title(path, answer.GetImageSize(), answer.GetTiming(), answer.GetCache()) +
		body(regionTable(answer.GetRegions()), answer.GetNoTargetScore())
}

func detectText(path string, answer *pb.DetectResponse) string {
	var rows [][]string
	for _, one := range answer.GetDetections() {
		rows = append(rows, []string{one.GetLabel(), scoreText(one.GetScore()), boxText(one.GetBox())})
	}
	return title(path, answer.GetImageSize(), answer.GetTiming(), answer.GetCache()) +
		body(table([]string{"label", "score", "box"}, rows, 1), answer.GetNoTargetScore())
}

func title(path string, size *pb.Size, stages *pb.Timing, cache pb.CacheOutcome) string {
	cached := ""
	if cache == pb.CacheOutcome_CACHE_OUTCOME_HIT {
		cached = ", from the cache"
	}
	return fmt.Sprintf("%s  %d x %d  %.0f ms%s",
		path, size.GetWidth(), size.GetHeight(), stages.GetTotal().AsDuration().Seconds()*1000, cached)
}

func body(table []string, noTarget float32) string {
	if table == nil {
		table = []string{fmt.Sprintf("nothing found (no-target score %.2f)", noTarget)}
	}
	return "\n  " + strings.Join(table, "\n  ")
}

func regionTable(regions []*pb.Region) []string {
	var rows [][]string
	for _, region := range regions {
		kind := "coarse"
		if region.GetRefined() {
			kind = "refined"
		}
		rows = append(rows, []string{
			region.GetLabel(), scoreText(region.GetScore()), boxText(region.GetBox()),
			fmt.Sprint(region.GetArea()), kind,
		})
	}
	return table([]string{"label", "score", "box", "area", "mask"}, rows, 1, 3)
}

func scoreText(score float32) string { return fmt.Sprintf("%.2f", score) }

func boxText(box *pb.Box) string {
	return fmt.Sprintf("[%d, %d, %d, %d]", box.GetX0(), box.GetY0(), box.GetX1(), box.GetY1())
}

// table aligns columns, some of them to the right; nil for no rows.
func table(header []string, rows [][]string, right ...int) []string {
	if len(rows) == 0 {
		return nil
	}
	lines := append([][]string{header}, rows...)
	widths := make([]int, len(header))
	for _, line := range lines {
		for column, cell := range line {
			widths[column] = max(widths[column], utf8.RuneCountInString(cell))
		}
	}
	toRight := map[int]bool{}
	for _, column := range right {
		toRight[column] = true
	}
	written := make([]string, len(lines))
	for i, line := range lines {
		cells := make([]string, len(line))
		for column, cell := range line {
			space := strings.Repeat(" ", widths[column]-utf8.RuneCountInString(cell))
			if cells[column] = cell + space; toRight[column] {
				cells[column] = space + cell
			}
		}
		written[i] = strings.TrimRight(strings.Join(cells, "  "), " ")
	}
	return written
}

func infoText(info *pb.GetModelInfoResponse) string {
	model := info.GetGenerator()
	refiners := strings.Join(info.GetRefinerModels(), ", ")
	if refiners == "" {
		refiners = "none"
	}
	return fmt.Sprintf("server    %s\nmodel     %s (%s, %dx%d grid, %s)\ntemplates %s\nrefiners  %s\n",
		info.GetVersions().GetServer(), info.GetVersions().GetModel(), model.GetEngine(),
		model.GetGridRows(), model.GetGridColumns(), model.GetCodec(), info.GetVersions().GetTemplates(), refiners)
}
