#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A MariaDB that reads and writes its files by Linux AIO and past the page cache, and a client that adds rows, changes and reads old ones. In its
# container.
set -u
mkdir -p /data /run
mariadb-install-db --no-defaults --datadir=/data --user=root --auth-root-authentication-method=normal --skip-test-db > /tmp/install.log 2>&1 || exit 1
mariadbd --no-defaults --user=root --datadir=/data --socket=/run/db.sock --skip-networking --skip-log-bin --innodb-linux-aio=aio \
	--innodb-flush-method=O_DIRECT --innodb-buffer-pool-size=8M --innodb-log-file-size=8M --innodb-io-capacity=2000 \
	--innodb-max-dirty-pages-pct=0 --innodb-flush-log-at-trx-commit=1 > /tmp/mariadbd.log 2>&1 &
sql() {
	mariadb --no-defaults --socket=/run/db.sock -u root --unbuffered --skip-column-names "$@"
}
until echo 'select 1' | sql > /tmp/up 2>&1; do sleep 0.1; done
echo 'create database d; create table d.t (id int primary key, n int, text mediumtext) engine=innodb' | sql || exit 1

# After each line: rows, the sum that they have to have, whether an old one has its text.
i=0
while [ ! -e /cr/stop ]; do
	i=$((i + 1))
	old=$((i * 7919 % i + 1))
	echo "begin; insert into t values ($i, $i, repeat('$i.', 3000)); update t set n = n + 1 where id = $old; commit;
		select count(*), sum(n), (select text = repeat('$old.', 3000) from t where id = $old) from t;"
done | sql d | (
	n=0
	while read -r rows sum same; do
		n=$((n + 1))
		[ "$rows $sum $same" = "$n $((n * (n + 1) / 2 + n)) 1" ] || echo "row $n: $rows rows, sum $sum, text $same" > /cr/error
		echo "$n" > /cr/.count
		mv /cr/.count /cr/count
	done
	result=$(echo 'check table t extended' | sql d)
	case $result in *OK) echo PASS ;; *) echo "FAIL: $result" ;; esac > /cr/.verdict
	mv /cr/.verdict /cr/verdict
)
exec sleep 1000
