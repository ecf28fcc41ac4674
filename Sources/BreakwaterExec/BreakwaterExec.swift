// BreakwaterExec
