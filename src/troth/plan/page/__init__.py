"""Plans as pages to look at: pictures in SVG, and one self-contained HTML file a plan."""
