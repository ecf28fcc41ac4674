// BreakwaterTesting
