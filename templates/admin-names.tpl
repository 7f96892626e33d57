<%
# The names that are an index's own without having files any more. Besides root, asset and query (see layout.tpl):
#   names   sorted     wrong   empty, or why they cannot be told     here, is_root (see admin-nav.tpl)
rebase("layout", title="Names once had")
%>
<h1>Names once had</h1>
% include("admin-nav")
<p class="text">Projects that had files here once and have none now. No upstream is asked for them, so that nobody else can take their names, until they are released.</p>
% if wrong:
<p class="note" role="alert"><bdi>{{wrong[:1].upper() + wrong[1:]}}</bdi></p>
% elif not names:
<p class="quiet">There are none.</p>
% end
<ul class="list rows">
% for name in names:
  <li>
    <b>{{name}}</b>
    <span class="links">
      <a href="{{root}}-/admin/names/{{name}}">Release<span class="hidden"> {{name}}</span></a>
      <a href="{{root}}-/admin/owners/{{name}}">Owners<span class="hidden"> of {{name}}</span></a>
    </span>
  </li>
% end
</ul>
