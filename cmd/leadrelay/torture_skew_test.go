package main

// skewVariable tells a process of the skewed program by how many seconds its clock is wrong.
const skewVariable = "TORTURE_SKEW"
