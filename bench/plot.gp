# Appended by report.py to its data: $cold, $stopped, $checkpoint, $restore (and others, not drawn), their titles, row counts,
# peers and output. A row is: name, then median, p10 and p90 for each peer.
set terminal svg size 1200,1000 font 'sans-serif,13' background rgb 'white' rounded
set output output
set datafile missing '-'
set style data histograms
set style histogram errorbars gap 1 linewidth 1.2
set style fill solid 0.9 border lc rgb '#333333'
set boxwidth 0.95
set logscale y
set format y '%g'
set grid y mytics lc rgb '#e4e4e4', lc rgb '#f2f2f2'
set border 3 lc rgb '#666666'
set tics nomirror
set xtics rotate by 25 right scale 0 font ',12'
set ylabel 'ms (log scale)'
set key off
set bmargin 6

color(i) = i == 1 ? '#d62828' : i == 2 ? '#7a9cc6' : i == 3 ? '#3d5a80' : '#b8b8b8'
if (word(peers, 1) ne 'stasis') color(i) = i == 1 ? '#7a9cc6' : i == 2 ? '#3d5a80' : '#b8b8b8'
n = words(peers)

set multiplot layout 2,2 title 'stasis and its peers: median, p10..p90; shorter is better' font ',16'
set yrange [0.5:*]
set key top left horizontal
set xrange [-0.7:cold_rows - 0.3]
set title cold_title
if (cold_rows) plot for [i=1:n] $cold using (column(3*i-1)):(column(3*i)):(column(3*i+1)):xtic(1) \
	lc rgb color(i) title word(peers, i)
if (cold_rows) set key off
set xrange [-0.6:*]
set title restore_title
if (restore_rows) plot for [i=1:n] $restore using (column(3*i-1)):(column(3*i)):(column(3*i+1)):xtic(1) \
	lc rgb color(i) title word(peers, i)
set key off
set title checkpoint_title
if (checkpoint_rows) plot for [i=1:n] $checkpoint using (column(3*i-1)):(column(3*i)):(column(3*i+1)):xtic(1) \
	lc rgb color(i)
set title stopped_title
if (stopped_rows) plot for [i=1:n] $stopped using (column(3*i-1)):(column(3*i)):(column(3*i+1)):xtic(1) \
	lc rgb color(i)
unset multiplot
