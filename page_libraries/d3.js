// What the service's pages use of D3; `make page-libraries` bundles it as aifs_tune/service/static/vendor/d3.js.

export { extent, leastIndex, quantileSorted, ticks } from "d3-array";
export { axisBottom, axisLeft } from "d3-axis";
export { contours } from "d3-contour";
export { scaleBand, scaleLinear, scaleLog, scalePoint } from "d3-scale";
export { select } from "d3-selection";
export { curveLinearClosed, curveStepAfter, line } from "d3-shape";
export { utcTicks } from "d3-time";
