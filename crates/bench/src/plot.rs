//! Plots of kept results, as SVG.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use plotters::prelude::*;
use serde_json::Value;

const SIZE: (u32, u32) = (760, 420);
const COLOURS: [RGBColor; 3] = [RGBColor(31, 119, 180), RGBColor(214, 96, 20), RGBColor(44, 140, 60)];

/// One line or row of points.
struct Series {
    name: String,
    points: Vec<(f64, f64)>,
    /// Drawn thin and without marks: what the model says.
    is_model: bool,
}

struct Chart<'a> {
    file: &'a str,
    title: &'a str,
    x: &'a str,
    y: &'a str,
    /// The horizontal axis counts in powers.
    powers: bool,
}

/// A sweep, what is drawn of it, and over what.
type Drawn<'a> = (&'a str, &'a str, &'a str, Chart<'a>);

/// Draws all plots whose points are there.
///
/// # Errors
/// The results cannot be read, or the plots not be written.
pub(crate) fn draw_all(results: &Path, out: &Path) -> Result<()> {
    let text = fs::read_to_string(results).with_context(|| results.display().to_string())?;
    let lines: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    fs::create_dir_all(out)?;
    let chart = |file, title, x, y, powers| Chart { file, title, x, y, powers };
    let cost = "CPU a delivery, µs";
    let drawn: [Drawn<'_>; 7] = [
        (
            "connections",
            "connections",
            "cpu_us_per_delivery",
            chart("delivery-by-connections", "A delivery, by subscribers of one channel", "subscribers", cost, false),
        ),
        (
            "connections",
            "connections",
            "anonymous_mib_held",
            chart(
                "memory-by-connections",
                "Memory of a node, by connections",
                "connections",
                "anonymous memory, MiB",
                false,
            ),
        ),
        (
            "channels",
            "channels",
            "cpu_us_per_delivery",
            chart("delivery-by-channels", "A delivery, by channels of 5,000 subscribers", "channels", cost, true),
        ),
        (
            "payload",
            "payload",
            "cpu_us_per_delivery",
            chart("delivery-by-payload", "A delivery to one of 1,000, by size", "bytes of data", cost, true),
        ),
        (
            "nodes",
            "nodes",
            "cpu_us_per_delivery",
            chart("delivery-by-nodes", "A delivery, by nodes that share 3,000 subscribers", "nodes", cost, false),
        ),
        (
            "nodes",
            "nodes",
            "redis_cpu_us_per_event",
            chart(
                "redis-by-nodes",
                "An event in Redis, by nodes that listen",
                "nodes",
                "CPU of Redis an event, µs",
                false,
            ),
        ),
        (
            "nodes",
            "nodes",
            "redis_bytes_out_per_event",
            chart("traffic-by-nodes", "Traffic out of Redis, by nodes that listen", "nodes", "bytes an event", false),
        ),
    ];
    for (sweep, x, y, chart) in drawn {
        let of = |line: &Value| Some((line["results"][x].as_f64()?, line["results"][y].as_f64()?));
        let points: Vec<(f64, f64)> = lines.iter().filter(|line| line["scenario"] == sweep).filter_map(of).collect();
        if points.len() < 2 {
            continue;
        }
        let mut series = vec![Series { name: "measured".to_owned(), points: points.clone(), is_model: false }];
        if !chart.powers {
            series.push(straight_line(&points));
        }
        let file = out.join(chart.file).with_extension("svg");
        draw(&file, &chart, &series).map_err(|error| anyhow!("{}: {error}", file.display()))?;
        println!("{}", file.display());
    }
    Ok(())
}

/// The line of least squares, from zero to the last point.
fn straight_line(points: &[(f64, f64)]) -> Series {
    let n = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(a, b), (x, y)| (a + x / n, b + y / n));
    let (over, under) = points.iter().fold((0.0, 0.0), |(o, u), p| (o + (p.0 - x) * (p.1 - y), u + (p.0 - x).powi(2)));
    let slope = if under == 0.0 { 0.0 } else { over / under };
    let base = y - slope * x;
    let last = points.iter().fold(0.0, |last: f64, point| last.max(point.0));
    let name = format!("{} + {} a step", short(base), short(slope));
    Series { name, points: vec![(0.0, base), (last, base + slope * last)], is_model: true }
}

/// Three digits that matter.
fn short(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let digits = (2 - value.abs().max(1e-9).log10().floor() as i32).clamp(0, 6) as usize;
    format!("{value:.digits$}")
}

fn draw(file: &Path, chart: &Chart<'_>, series: &[Series]) -> Result<(), Box<dyn std::error::Error>> {
    let area = SVGBackend::new(file, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let across = |point: &(f64, f64)| if chart.powers { point.0.log10() } else { point.0 };
    let all = || series.iter().flat_map(|series| &series.points);
    let from = if chart.powers { all().map(across).fold(f64::MAX, f64::min) - 0.1 } else { 0.0 };
    let to = all().map(across).fold(f64::MIN, f64::max) * 1.04;
    let top = all().map(|point| point.1).fold(0.0, f64::max) * 1.15;
    let mut plot = ChartBuilder::on(&area)
        .caption(chart.title, ("sans-serif", 20))
        .margin(14)
        .x_label_area_size(46)
        .y_label_area_size(70)
        .build_cartesian_2d(from..to, 0.0..top)?;
    let tick = |x: &f64| if chart.powers { format!("{:.0}", 10f64.powf(*x)) } else { format!("{x:.0}") };
    plot.configure_mesh()
        .x_desc(chart.x)
        .y_desc(chart.y)
        .x_label_formatter(&tick)
        .y_label_formatter(&|y| short(*y))
        .light_line_style(RGBColor(240, 240, 240))
        .axis_desc_style(("sans-serif", 15))
        .label_style(("sans-serif", 13))
        .draw()?;
    for (number, series) in series.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let points: Vec<(f64, f64)> = series.points.iter().map(|point| (across(point), point.1)).collect();
        let width = if series.is_model { 1 } else { 2 };
        plot.draw_series(LineSeries::new(points.clone(), colour.stroke_width(width)))?
            .label(series.name.clone())
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 18, y)], colour.stroke_width(width)));
        if !series.is_model {
            plot.draw_series(points.into_iter().map(|point| Circle::new(point, 4, colour.filled())))?;
        }
    }
    plot.configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .border_style(RGBColor(200, 200, 200))
        .label_font(("sans-serif", 14))
        .draw()?;
    area.present()?;
    Ok(())
}
