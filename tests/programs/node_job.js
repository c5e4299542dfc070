// SPDX-License-Identifier: Apache-2.0
// A chain of digests through everything that node does beside the main loop: workers, the thread pool (zlib, crypto, files),
// timers, a child process. Its end is the same whenever it is interrupted.
const { Worker, isMainThread, parentPort } = require('worker_threads')
const crypto = require('crypto'), fs = require('fs'), zlib = require('zlib')
const { promisify } = require('util'), { execFile } = require('child_process')

function digest(data) { return crypto.createHash('sha256').update(data).digest('hex') }

if (!isMainThread) {
	parentPort.on('message', text => {
		for (let i = 0; i < 3000; i++)
			text = digest(text)
		parentPort.postMessage(text)
	})
} else {
	const workers = [1, 2, 3].map(() => new Worker(__filename))
	const ask = (worker, text) => new Promise((ok, fail) => {
		worker.once('message', ok)
		worker.once('error', fail)
		worker.postMessage(text)
	})
	const main = async () => {
		let text = 'begin'
		for (let turn = 0; turn < 60; turn++) {
			const answers = await Promise.all(workers.map((w, i) => ask(w, text + i)))
			const key = await promisify(crypto.pbkdf2)(answers.join(), 'salt', 500, 64, 'sha512')
			const packed = await promisify(zlib.deflate)(Buffer.alloc(200000, key))
			fs.writeFileSync('/tmp/node_job', await promisify(zlib.inflate)(packed))
			await new Promise(ok => setTimeout(ok, 20))
			if (turn % 20 === 0)
				text = (await promisify(execFile)('/usr/bin/sha256sum', ['/tmp/node_job'])).stdout
			text = digest(text + fs.readFileSync('/tmp/node_job', 'latin1'))
		}
		fs.writeFileSync('/cr/out', text + '\n')
		process.exit(0)
	}
	main()
}
