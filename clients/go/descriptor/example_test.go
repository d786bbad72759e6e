package descriptor_test

import (
	"fmt"

	"github.com/text4seg/text4seg-serving/clients/go/descriptor"
)

func ExampleDecode() {
	format := descriptor.Format{Rows: 2, Columns: 3, Labels: []string{"white horse"}}
	decoding, err := descriptor.Decode("others *1| white horse *2\n others *2\n", format)
	if err != nil {
		panic(err)
	}
	fmt.Println(decoding.Grid.At(0, 2))
	for _, repair := range decoding.Repairs {
		fmt.Println(repair.Kind, repair.Row, repair.Column, repair.Detail)
	}
	fmt.Printf("%q\n", descriptor.Encode(decoding.Grid, descriptor.RRLE))
	// Output:
	// white horse
	// row_short 1 2 2 of 3 patches are described
	// "others *1| white horse *2\n others *3\n"
}
