package main

import "sync"

// program is the binary under test, built once.
var program struct {
	sync.Once
	dir string
	err error
}
