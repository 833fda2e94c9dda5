module configstream/naive

go 1.24
