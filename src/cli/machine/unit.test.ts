import assert from 'node:assert/strict'
import { test } from 'node:test'
import { unitText } from '#cli/machine/unit.ts'

test('words are written as systemd reads them', () => {
  const text = unitText({
    command: ['/opt/twill/bin/twill', 'agent', '--iface=eth1', '--x=a b"c\\', '--y=50%$HOME'],
    environment: { NODE_NAME: 'a b' },
  })
  assert.match(text, /^ExecStart=\/opt\/twill\/bin\/twill agent --iface=eth1 "--x=a b\\"c\\\\" --y=50%%\$\$HOME$/m)
  assert.match(text, /^Environment="NODE_NAME=a b"$/m)
  assert.match(text, /^Type=notify$/m)
})
