// For the checker of types alone: as much as the page uses of the library. Not part of it, and never served.
export const CandlestickSeries: unknown;
export const HistogramSeries: unknown;
export function createChart(container: HTMLElement, options: object): any;
