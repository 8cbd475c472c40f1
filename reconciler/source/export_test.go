package source

// FetchHere is a fetch in this process.
var FetchHere = fetch
