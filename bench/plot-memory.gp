# Appended by report.py to its data: blocks of size in MiB, median, p10 and p90 in ms, and what is to be plotted of them.
set terminal svg size 1200,480 font 'sans-serif,13' background rgb 'white' rounded
set output output
set logscale xy
set format y '%g'
set xtics (64, 256, '1 GiB' 1024, '4 GiB' 4096, '8 GiB' 8192)
set xrange [50:11000]
set grid y mytics lc rgb '#e4e4e4', lc rgb '#f2f2f2'
set border 3 lc rgb '#666666'
set tics nomirror
set xlabel 'MiB of memory (log scale)'
set ylabel 'ms (log scale)'
set key bottom right font ',10'
color(n) = n == 0 ? 0xd62828 : n == 1 ? 0x7a9cc6 : n == 2 ? 0x3d5a80 : n == 3 ? 0xb8b8b8 : n == 4 ? 0xf4a261 : 0x2a9d8f

set multiplot layout 1,3 title 'stasis and its peers by size of memory: median, p10..p90; lower is better' font ',16'
set title 'Checkpoint: time frozen'
eval plot_frozen
set title 'Restore: until the program makes progress'
eval plot_progress
set title 'Restore: until all memory is there'
eval plot_all
unset multiplot
