// BreakwaterHTTP
