package mask

import (
	"fmt"

	pb "github.com/text4seg/text4seg-serving/clients/go/gen/text4seg/v1"
)

const (
	firstCharacter = 48
	maxGroups      = 7 // 35 bits: the difference of two 32-bit runs, with its sign
)

// EncodeRLE writes a mask of at least one pixel in COCO run-length encoding; the counts equal those of pycocotools.
//
// A mask is read column by column; runs alternate background, foreground, background, and the first may be 0 long. The
// text writes each run, from the fourth on as the difference to the run two places before it, in groups of five bits,
// least significant first: a sixth bit says that more follow, the top bit of the last group is the sign, and 48 is added
// to make a printable character. The format is that of the COCO API (maskApi.c, rleToString and rleFrString).
func EncodeRLE(m Mask) *pb.Rle {
	var runs []int
	length, value := 0, false
	for column := range m.Width {
		for at := column; at < len(m.Pixels); at += m.Width {
			if m.Pixels[at] != value {
				runs = append(runs, length)
				length, value = 0, !value
			}
			length++
		}
	}
	runs = append(runs, length)
	var counts []byte
	for i, run := range runs {
		if i > 2 {
			run -= runs[i-2]
		}
		counts = appendNumber(counts, run)
	}
	size := &pb.Size{Height: int32(m.Height), Width: int32(m.Width)}
	return &pb.Rle{Size: size, Counts: string(counts)}
}

func appendNumber(counts []byte, rest int) []byte {
	for {
		group := rest & 31
		rest >>= 5
		sign := 0
		if group&16 != 0 {
			sign = -1
		}
		if rest == sign {
			return append(counts, byte(group+firstCharacter))
		}
		counts = append(counts, byte(group+32+firstCharacter))
	}
}

// DecodeRLE reads a mask in COCO run-length encoding. Nothing is allocated before the size is known to be allowed. It
// fails with [ErrInvalid] for a size that is not positive or too large, a character outside of the alphabet, an unfinished
// or over-long number, a negative run, and runs that do not add up to the mask.
func DecodeRLE(message *pb.Rle) (Mask, error) {
	height, width := int(message.GetSize().GetHeight()), int(message.GetSize().GetWidth())
	if err := checkSize(height, width); err != nil {
		return Mask{}, err
	}
	counts, pixels := message.GetCounts(), height*width
	if len(counts) == 0 || len(counts) > 2*pixels+16 {
		return Mask{}, fmt.Errorf("%w: %d characters cannot encode %d pixels", ErrInvalid, len(counts), pixels)
	}
	decoded := New(height, width)
	filled, index := 0, 0
	earlier := [2]int{} // the last two runs
	for at := 0; at < len(counts); index++ {
		run, next, err := readNumber(counts, at)
		if err != nil {
			return Mask{}, err
		}
		at = next
		if index > 2 {
			run += earlier[0]
		}
		if run < 0 || run > pixels-filled {
			return Mask{}, fmt.Errorf("%w: run %d is negative, or goes on behind the last pixel", ErrInvalid, index)
		}
		if index%2 == 1 {
			decoded.fillColumnwise(filled, filled+run)
		}
		filled += run
		earlier = [2]int{earlier[1], run}
	}
	if filled != pixels {
		return Mask{}, fmt.Errorf("%w: runs add up to %d, the mask has %d pixels", ErrInvalid, filled, pixels)
	}
	return decoded, nil
}

func readNumber(counts string, at int) (number, next int, err error) {
	for group := 0; ; group++ {
		if at == len(counts) {
			return 0, 0, fmt.Errorf("%w: the counts end in the middle of a number", ErrInvalid)
		}
		if group == maxGroups {
			return 0, 0, fmt.Errorf("%w: a number has more than 32 bits", ErrInvalid)
		}
		bits := int(counts[at]) - firstCharacter
		if bits < 0 || bits > 63 {
			return 0, 0, fmt.Errorf("%w: a character is outside of the RLE alphabet", ErrInvalid)
		}
		at++
		number |= (bits & 31) << (5 * group)
		if bits < 32 {
			if bits&16 != 0 {
				number -= 1 << (5 * (group + 1))
			}
			return number, at, nil
		}
	}
}

// fillColumnwise marks the pixels [begin, end), counted column by column.
func (m Mask) fillColumnwise(begin, end int) {
	row, column := begin%m.Height, begin/m.Height
	for range end - begin {
		m.Pixels[row*m.Width+column] = true
		if row++; row == m.Height {
			row, column = 0, column+1
		}
	}
}
