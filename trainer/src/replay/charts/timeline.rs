//! Outcomes over time: for each cell that prefetches, what became of prefetches beside what clients felt.

use std::ops::Range;

use nearcast_datasets::{Timestamp, rfc3339};
use plotters::{
    backend::SVGBackend,
    chart::{ChartBuilder, ChartContext},
    coord::{cartesian::Cartesian2d, types::RangedCoordf64},
    element::Rectangle,
    series::LineSeries,
    style::{Color, WHITE},
};

use super::{Area, CLAIMED, Chart, Drawn, LATE, NEUTRAL, UNUSED, USED, cut, draw, short, small};
use crate::replay::{CellReport, Result, TimeSlice};

type Plane = Cartesian2d<RangedCoordf64, RangedCoordf64>;

/// One row per cell: on the left used, late and unused segments, on the right the miss ratio with prefetching and
/// without.
pub(in crate::replay) fn outcomes_over_time(cells: &[CellReport]) -> Result<Option<Chart>> {
    let mut cells: Vec<_> = cells.iter().filter(|cell| cell.prefetches() && cell.timeline.len() > 1).collect();
    if cells.is_empty() {
        return Ok(None);
    }
    let note = cut(&mut cells, ROWS_MAX);
    let height = ROW_HEIGHT * u32::try_from(cells.len()).unwrap_or(1);
    let svg = draw("outcomes over time", height, |area| {
        let rows = area.split_evenly((cells.len(), 1));
        rows.iter().zip(&cells).try_for_each(|(row, cell)| draw_row(row, cell))
    })?;
    Ok(Some(Chart { svg, note }))
}

/// A slice as it is drawn: from when to when since the first one began, and what happened.
#[derive(Debug)]
struct Span<'a> {
    time: Range<f64>,
    slice: &'a TimeSlice,
}

fn draw_row(row: &Area<'_>, cell: &CellReport) -> Drawn {
    let row = row.titled(&cell.name(), small())?;
    let halves = row.split_evenly((1, 2));
    let [left, right] = halves.as_slice() else { return Ok(()) };
    let (unit, spans) = spans(&cell.timeline);
    let start = rfc3339(Timestamp::from_micros(cell.timeline[0].start_us));
    let x_name = format!("{unit} since {start}");
    draw_outcomes(left, &x_name, &spans)?;
    draw_misses(right, &x_name, &spans)
}

fn draw_outcomes(area: &Area<'_>, x_name: &str, spans: &[Span<'_>]) -> Drawn {
    let parts = |slice: &TimeSlice| [(slice.used, USED), (slice.late, LATE), (slice.unused, UNUSED)];
    let heights = spans.iter().map(|span| parts(span.slice).iter().map(|(count, _)| *count as f64).sum());
    let mut plane = plane(area, (x_name, "segments"), spans, heights.fold(1.0, f64::max))?;
    for Span { time, slice } in spans {
        let mut base = 0.0;
        for (count, colour) in parts(slice).into_iter().filter(|(count, _)| *count > 0) {
            let top = base + count as f64;
            plane.draw_series([Rectangle::new([(time.start, base), (time.end, top)], colour.filled())])?;
            base = top;
        }
    }
    Ok(())
}

fn draw_misses(area: &Area<'_>, x_name: &str, spans: &[Span<'_>]) -> Drawn {
    let (with, without) = (misses(spans, |slice| slice.misses), misses(spans, |slice| slice.baseline_misses));
    let highest = with.iter().chain(&without).map(|point| point.1).fold(1e-3, f64::max);
    let mut plane = plane(area, (x_name, "miss ratio"), spans, highest)?;
    for (points, colour) in [(without, NEUTRAL), (with, CLAIMED)] {
        plane.draw_series(LineSeries::new(points, colour.stroke_width(2)))?;
    }
    Ok(())
}

/// Axes with these names, from the start to the end of the spans and from zero to a little above `highest`.
fn plane<'a>(
    area: &Area<'a>,
    (x_name, y_name): (&str, &str),
    spans: &[Span<'_>],
    highest: f64,
) -> Drawn<ChartContext<'a, SVGBackend<'a>, Plane>> {
    let end = spans.last().map_or(1.0, |span| span.time.end);
    let mut plane = ChartBuilder::on(area)
        .margin(6)
        .x_label_area_size(36)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..end, 0.0..highest * 1.05)?;
    plane
        .configure_mesh()
        .light_line_style(WHITE)
        .label_style(small())
        .x_label_formatter(&|value| short(*value))
        .y_label_formatter(&|value| if highest < 1.0 { format!("{value:.2}") } else { short(*value) })
        .x_desc(x_name)
        .y_desc(y_name)
        .draw()?;
    Ok(plane)
}

/// The slices on an axis in a unit that suits them.
fn spans(timeline: &[TimeSlice]) -> (&'static str, Vec<Span<'_>>) {
    let first = timeline[0].start_us;
    let width = timeline.get(1).map_or(1, |second| second.start_us - first) as f64;
    let micros = width * timeline.len() as f64;
    let (unit, unit_micros) = UNITS.into_iter().find(|(_, unit)| micros >= 3.0 * unit).unwrap_or(SECONDS);
    let spans = timeline.iter().map(|slice| {
        let start = (slice.start_us - first) as f64;
        Span { time: start / unit_micros..(start + width) / unit_micros, slice }
    });
    (unit, spans.collect())
}

/// The miss ratio of every slice that has requests, in its middle.
fn misses(spans: &[Span<'_>], of: impl Fn(&TimeSlice) -> u64) -> Vec<(f64, f64)> {
    let asked = spans.iter().filter(|span| span.slice.requests > 0);
    let middle = |time: &Range<f64>| (time.start + time.end) / 2.0;
    asked.map(|span| (middle(&span.time), of(span.slice) as f64 / span.slice.requests as f64)).collect()
}

const ROWS_MAX: usize = 6;
const ROW_HEIGHT: u32 = 210;
const SECONDS: (&str, f64) = ("seconds", 1e6);
const UNITS: [(&str, f64); 3] = [("days", 86_400e6), ("hours", 3_600e6), ("minutes", 60e6)];
