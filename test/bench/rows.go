package main

// rows are the promises, in the order they are shown.
var rows = []row{}
