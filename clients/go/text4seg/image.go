package text4seg

import (
	"bytes"
	"image"
	"image/png"
	"os"

	pb "github.com/text4seg/text4seg-serving/clients/go/gen/text4seg/v1"
)

// Image says where the pixels of a call come from: [File], [Bytes], [Picture], [Stored] or [URI].
type Image struct {
	message func() (*pb.Image, error)
}

// File is an image file: JPEG, PNG, WebP, BMP or TIFF. It is read when the call is made, and sent as it is.
func File(path string) Image {
	return Image{func() (*pb.Image, error) {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		return &pb.Image{Source: &pb.Image_Content{Content: data}}, nil
	}}
}

// Bytes is the content of an image file.
func Bytes(data []byte) Image {
	return Image{func() (*pb.Image, error) {
		return &pb.Image{Source: &pb.Image_Content{Content: data}}, nil
	}}
}

// Picture is an image in memory. It travels as PNG, without loss.
func Picture(picture image.Image) Image {
	return Image{func() (*pb.Image, error) {
		var file bytes.Buffer
		encoder := png.Encoder{CompressionLevel: png.BestSpeed}
		if err := encoder.Encode(&file, picture); err != nil {
			return nil, err
		}
		return &pb.Image{Source: &pb.Image_Content{Content: file.Bytes()}}, nil
	}}
}

// Stored is an image that [Client.PutImage] stored, by its id.
func Stored(id string) Image {
	return Image{func() (*pb.Image, error) {
		return &pb.Image{Source: &pb.Image_Id{Id: id}}, nil
	}}
}

// URI is an image that the server fetches. A server refuses addresses that its operator did not allow.
func URI(uri string) Image {
	return Image{func() (*pb.Image, error) {
		return &pb.Image{Source: &pb.Image_Uri{Uri: uri}}, nil
	}}
}

func (i Image) read() (*pb.Image, error) {
	if i.message == nil { // the server says what is wrong with no image
		return &pb.Image{}, nil
	}
	return i.message()
}
