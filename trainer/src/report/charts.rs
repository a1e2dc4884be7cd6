//! The charts of a version's report.

use plotters::{
    chart::ChartBuilder,
    element::{Circle, PathElement, Rectangle},
    style::{Color, ShapeStyle, WHITE},
};

use super::{Details, details::Score};
use crate::{
    EpochReport,
    evaluate::Reliability,
    replay::Result,
    replay::charts::{Area, Bar, CLAIMED, Chart, Drawn, NEUTRAL, UNUSED, USED, cut, draw, draw_bars, small},
};

/// Left the loss, right how validation went, pass by pass; the best pass is marked.
pub(super) fn learning_curves(epochs: &[EpochReport], best_epoch: usize) -> Result<Option<Chart>> {
    if epochs.is_empty() {
        return Ok(None);
    }
    let svg = draw("learning curves", 300, |area| {
        let (left, right) = area.split_horizontally(area.dim_in_pixel().0 / 2);
        let points = |of: fn(&EpochReport) -> f64| -> Vec<(f64, f64)> {
            epochs.iter().map(|report| (report.epoch as f64, of(report))).collect()
        };
        let loss = [("loss, nats per request", UNUSED, points(|report| report.loss))];
        let validation = [
            ("hit rate@20", USED, points(|report| report.validation.without_repeats.hit_rate_20)),
            ("MRR@20", CLAIMED, points(|report| report.validation.without_repeats.mrr_20)),
        ];
        curves(&left, "loss", best_epoch, &loss)?;
        curves(&right, "validation, repeats left out: hit rate@20 (green), MRR@20 (blue)", best_epoch, &validation)
    })?;
    Ok(Some(Chart { svg, note: String::new() }))
}

type Curve<'a> = (&'a str, plotters::style::RGBColor, Vec<(f64, f64)>);

fn curves(area: &Area<'_>, title: &str, best_epoch: usize, curves: &[Curve<'_>]) -> Drawn {
    let area = area.titled(title, small())?;
    let values = || curves.iter().flat_map(|(.., points)| points);
    let last = values().map(|point| point.0).fold(1.0, f64::max);
    let (low, high) = values().fold((f64::MAX, f64::MIN), |(low, high), point| (low.min(point.1), high.max(point.1)));
    let room = ((high - low) * 0.1).max(1e-3);
    let mut plane = ChartBuilder::on(&area)
        .margin(8)
        .x_label_area_size(36)
        .y_label_area_size(60)
        .build_cartesian_2d(0.5..last + 0.5, low - room..high + room)?;
    plane
        .configure_mesh()
        .light_line_style(WHITE)
        .label_style(small())
        .x_labels(epochs_labelled(last))
        .x_label_formatter(&|value| format!("{value:.0}"))
        .x_desc("pass")
        .draw()?;
    for (_, colour, points) in curves {
        plane.draw_series([PathElement::new(points.clone(), colour.stroke_width(2))])?;
        let circle = |(x, y): &(f64, f64)| {
            let is_best = (x - best_epoch as f64).abs() < 0.5;
            Circle::new((*x, *y), if is_best { 6 } else { 3 }, colour.filled())
        };
        plane.draw_series(points.iter().map(circle))?;
    }
    Ok(())
}

fn epochs_labelled(last: f64) -> usize {
    (last as usize).clamp(2, 10)
}

/// Claimed probability against the share that came true.
pub(super) fn reliability(reliability: &Reliability) -> Result<Option<Chart>> {
    if reliability.count() == 0 {
        return Ok(None);
    }
    let svg = draw("reliability", 360, |area| {
        let (area, _) = area.split_horizontally(SQUARE);
        let mut plane = ChartBuilder::on(&area)
            .margin(8)
            .x_label_area_size(38)
            .y_label_area_size(60)
            .build_cartesian_2d(0.0..1.0, 0.0..1.0)?;
        plane
            .configure_mesh()
            .light_line_style(WHITE)
            .label_style(small())
            .x_desc("claimed")
            .y_desc("came true")
            .draw()?;
        plane.draw_series([PathElement::new([(0.0, 0.0), (1.0, 1.0)], NEUTRAL)])?;
        let filled = reliability.bins.iter().filter(|bin| bin.count > 0);
        plane.draw_series(filled.map(|bin| {
            let count = bin.count as f64;
            let style: ShapeStyle = CLAIMED.mix(0.65).filled();
            Circle::new((bin.claimed / count, bin.came_true as f64 / count), 2 + (1.5 * count.log10()) as i32, style)
        }))?;
        Ok(())
    })?;
    let note = format!("{} claims, expected calibration error {:.4}.", reliability.count(), reliability.error());
    Ok(Some(Chart { svg, note }))
}

/// Hit rate by region, regions with most predictions first.
pub(super) fn by_region(details: &Details) -> Result<Option<Chart>> {
    let mut regions: Vec<_> = details.regions.iter().filter(|(_, score)| score.predictions > 0).collect();
    regions.sort_by(|a, b| b.1.predictions.cmp(&a.1.predictions).then_with(|| a.0.cmp(b.0)));
    let note = cut(&mut regions, REGIONS_SHOWN);
    let bars: Vec<Bar> = regions.into_iter().map(|(name, score)| bar(name.clone(), score)).collect();
    Ok(draw_bars("hit rate@20", &bars)?.map(|chart| Chart { note, ..chart }))
}

/// Hit rate by hour of the day.
pub(super) fn by_hour(details: &Details) -> Result<Option<Chart>> {
    let hours = (0..).zip(&details.hours).filter(|(_, score)| score.predictions > 0);
    let bars: Vec<Bar> = hours.map(|(hour, score): (u32, _)| bar(format!("{hour:02}:00"), score)).collect();
    draw_bars("hit rate@20", &bars)
}

fn bar(name: String, score: &Score) -> Bar {
    let note = format!("{:.3}, MRR {:.3}, {} predictions", score.hit_rate(), score.mrr(), score.predictions);
    Bar { name, parts: vec![(score.hit_rate(), USED)], note }
}

/// A small picture of requests by hour.
pub(super) fn day(hours: &[u64; 24]) -> Result<String> {
    let most = hours.iter().copied().max().unwrap_or(0).max(1) as f64;
    draw("demand by hour", 60, |area| {
        let (area, _) = area.split_horizontally(SPARK_WIDTH);
        let mut plane = ChartBuilder::on(&area).build_cartesian_2d(0.0..24.0, 0.0..most)?;
        let bar = |(hour, count): (usize, &u64)| {
            let corners = [(hour as f64 + 0.1, 0.0), (hour as f64 + 0.9, *count as f64)];
            Rectangle::new(corners, ShapeStyle::from(&CLAIMED).filled())
        };
        plane.draw_series(hours.iter().enumerate().map(bar))?;
        Ok(())
    })
}

/// Side of a reliability diagram, in pixels.
const SQUARE: u32 = 420;
const SPARK_WIDTH: u32 = 260;
const REGIONS_SHOWN: usize = 20;
