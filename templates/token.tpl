<%
# A token that was just made. Besides root, asset and query (see layout.tpl):
#   token    .name, .user and so on (see tokens.tpl)     secret     what stands in for a password; nobody can be told again
#   address  of this index                               wrong      always empty
rebase("layout", title="The token " + token.name)
%>
<h1>The token {{token.name}}</h1>
<p class="lead" role="status">Copy it now: it is shown this once.</p>
<dl class="lines">
  <div><dt>Token</dt><dd><pre data-copy>{{secret}}</pre></dd></div>
</dl>
<h2>How programs use it</h2>
<p class="text">As the password of the user <code>__token__</code>. For twine, for example, in <code>~/.pypirc</code>:</p>
<dl class="lines">
  <div><dt>.pypirc</dt><dd><pre data-copy>[distutils]
index-servers = own

[own]
repository = {{address}}
username = __token__
password = {{secret}}</pre></dd></div>
</dl>
<p><a href="{{root}}-/tokens">To the tokens</a></p>
