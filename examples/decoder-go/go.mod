module example.com/ekvdecoder

go 1.26
