package photo

import (
	"bytes"
	"encoding/binary"
)

const orientationTag = 0x0112

// orientation finds EXIF's orientation in a file, 1 to 8; 1 where there is none.
func orientation(file []byte, format string) int {
	var tiff []byte
	switch format {
	case "jpeg":
		tiff = exifOfJPEG(file)
	case "png":
		tiff = chunk(file, 8, "eXIf", binary.BigEndian, pngChunk)
	case "webp":
		tiff = chunk(file, 12, "EXIF", binary.LittleEndian, riffChunk)
	case "tiff":
		tiff = file
	}
	return orientationOfTIFF(bytes.TrimPrefix(tiff, []byte("Exif\x00\x00")))
}

func exifOfJPEG(file []byte) []byte {
	for at := 2; at+4 <= len(file) && file[at] == 0xff; {
		marker, length := file[at+1], int(binary.BigEndian.Uint16(file[at+2:]))
		if marker == 0xff { // fill byte
			at++
			continue
		}
		if marker == 0xda || length < 2 || at+2+length > len(file) {
			return nil
		}
		segment := file[at+4 : at+2+length]
		if marker == 0xe1 && bytes.HasPrefix(segment, []byte("Exif\x00\x00")) {
			return segment
		}
		at += 2 + length
	}
	return nil
}

// How PNG and RIFF files lay chunks out: where name, length and content are, and what stands behind the content.
type layout struct {
	name, length, content int
	trailer               int
	even                  bool
}

var (
	pngChunk  = layout{name: 4, length: 0, content: 8, trailer: 4}
	riffChunk = layout{name: 0, length: 4, content: 8, even: true}
)

func chunk(file []byte, begin int, name string, order binary.ByteOrder, as layout) []byte {
	for at := begin; at+as.content <= len(file); {
		length := int(order.Uint32(file[at+as.length:]))
		end := at + as.content + length
		if length < 0 || end > len(file) {
			return nil
		}
		if string(file[at+as.name:at+as.name+4]) == name {
			return file[at+as.content : end]
		}
		at = end + as.trailer
		if as.even {
			at += length % 2
		}
	}
	return nil
}

// orientationOfTIFF reads the tag in the first directory of a TIFF structure.
func orientationOfTIFF(tiff []byte) int {
	if len(tiff) < 8 {
		return 1
	}
	var order binary.ByteOrder = binary.LittleEndian
	if string(tiff[:2]) == "MM" {
		order = binary.BigEndian
	}
	at := int(order.Uint32(tiff[4:]))
	if at < 8 || at+2 > len(tiff) {
		return 1
	}
	entries := int(order.Uint16(tiff[at:]))
	for entry := at + 2; entry+12 <= len(tiff) && entries > 0; entry, entries = entry+12, entries-1 {
		if order.Uint16(tiff[entry:]) == orientationTag {
			if value := int(order.Uint16(tiff[entry+8:])); value >= 1 && value <= 8 {
				return value
			}
			return 1
		}
	}
	return 1
}
