/** The systemd unit of the agent. Source: systemd.service(5), systemd.syntax(7). @module */

/** Text of twill.service.
 * @param command  Program and arguments, the first an absolute path. */
export function unitText(o: { readonly command: readonly string[]; readonly environment: Readonly<Record<string, string>> }): string {
  const environment = Object.entries(o.environment).map(([key, value]) => `Environment=${quoted(`${key}=${value}`)}`)
  return [
    '# Made by twill install; twill uninstall takes it away.',
    '[Unit]',
    'Description=Twill, the pod network of this node',
    'Wants=network-online.target',
    'After=network-online.target',
    '',
    '[Service]',
    '# READY comes when pods can; the agent says why it waits and asks for more time.',
    'Type=notify',
    'TimeoutStartSec=infinity',
    ...environment,
    `ExecStart=${o.command.map(quoted).join(' ')}`,
    'Restart=always',
    'RestartSec=2',
    'OOMScoreAdjust=-998',
    '',
    '[Install]',
    'WantedBy=multi-user.target',
    '',
  ].join('\n')
}

/** `%` starts a specifier, `$` a variable; a word with anything else than these characters is quoted. */
function quoted(word: string): string {
  const text = word.replaceAll('%', '%%').replaceAll('$', '$$$$')
  return /^[\w@%$+=:,./-]+$/.test(text) ? text : `"${text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')}"`
}
