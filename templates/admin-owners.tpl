<%
# Who owns a project in an index. Besides root, asset and query (see layout.tpl):
#   name     of the project, normalized     owners   user names, sorted
#   inherits whether owners in an index that this one is based on count, as there are none here
#   wrong    empty, or why they cannot be told     here, is_root (see admin-nav.tpl)
rebase("layout", title="Owners of " + name)
from urllib.parse import quote
%>
<h1>Owners of {{name}}</h1>
% include("admin-nav")
<p class="text">Whoever published it first in this index, and whom an admin added. They may do with it what rules say of the owner.</p>
% if wrong:
<p class="note" role="alert"><bdi>{{wrong[:1].upper() + wrong[1:]}}</bdi></p>
% elif not owners:
<p class="quiet">{{"Nobody in this index: who owns it in an index that this one is based on counts." if inherits else "Nobody owns it."}}</p>
% end
<ul class="list rows">
% for owner in owners:
  <li><b><bdi>{{owner}}</bdi></b> <a href="{{root}}-/admin/owners/{{name}}/remove?user={{quote(owner, safe="")}}">Remove<span class="hidden"> {{owner}}</span></a></li>
% end
</ul>
<p><a href="{{root}}-/admin/owners/{{name}}/add">Add an owner</a></p>
